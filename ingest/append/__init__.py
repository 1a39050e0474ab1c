"""Writes entries to Redis in batches, or to the spool while Redis is away.

Start with `group_commit`; `pipeline` wires the parts.
"""
