"""Tools around the product: locks, audit, Redis users, and `docs`, which builds the documentation."""
