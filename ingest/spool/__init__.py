"""Stores entries on the local disk while Redis is away.

Start with `queue`.
"""
