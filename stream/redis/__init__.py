"""The Redis client of every process: URL, connections, Sentinel, and the names of Redis faults.

Start with `client`.
"""
