"""The HTTP edge: connections, limits, and one answer per webhook.

Start with `webhook`.
"""
