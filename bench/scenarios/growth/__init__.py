"""How costs grow with connections, sizes, backlog, groups, shards and workers, and memory with time."""
