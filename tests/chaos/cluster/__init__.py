"""The processes of a run: Redis, ingest, workers and the database, as the faults see them."""
