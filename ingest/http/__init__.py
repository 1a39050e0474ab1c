"""The HTTP edge: connections, limits, one webhook to one answer.

Start with `webhook`.
"""
