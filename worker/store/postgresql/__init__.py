"""How the worker, the console and `migrate` connect to PostgreSQL."""
