"""The loop of one consumer group: fetch entries, process them, settle them.

Start with `consumer`.
"""
