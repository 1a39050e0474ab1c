"""The stream contract: the layout of an entry, the names of the keys, the settings and the connection to Redis."""
