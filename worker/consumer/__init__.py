"""Consumes one group in a loop: fetches entries, processes them and settles them.

Start with `consumer`.
"""
