"""The Redis client of every process: URL, connections, Sentinel, Redis Cluster, and kinds of Redis faults.

Start with `client`.
"""
