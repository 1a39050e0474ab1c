"""Trims the stream, keeps the entries that a group has not settled, and writes the archive.

Start with `trimmer`; `ack_floor` finds the oldest entry that some group has not settled.
"""
