"""Order mode: a checker of calls, workers without their loops, and ingest and workers on a cluster."""
