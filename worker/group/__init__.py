"""One consumer group in Redis: its position, the heartbeats of its consumers, claims and poison entries.

Start with `consumer_group`.
"""
