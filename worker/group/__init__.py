"""One consumer group in Redis: position, heartbeats of its consumers, claims and poison entries.

Start with `consumer_group`.
"""
