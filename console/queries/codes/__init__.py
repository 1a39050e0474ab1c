"""Tables of codes: error codes of the provider, and the countries of networks."""
