"""Turns a payload into a `StatusEvent`. No I/O.

Start with `vonage.parse`.
"""
