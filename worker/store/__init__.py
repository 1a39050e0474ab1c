"""The built-in SQL handler: one row a message, one row an event.

Start with `handler`; `projection` decides what a message row holds.
"""
