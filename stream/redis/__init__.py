"""The Redis client of every process: URL, connections, Sentinel, and kinds of Redis faults.

Start with `client`.
"""
