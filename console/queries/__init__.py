"""Queries of Redis and the database for the commands. They print nothing.

Start with `stats`.
"""
