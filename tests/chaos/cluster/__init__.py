"""The processes of a run: Redis, ingest, workers and the database, with what faults need of them."""
