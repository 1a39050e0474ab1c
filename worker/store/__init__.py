"""The built-in SQL handler: one row per message, one row per event.

Start with `handler`; `projection` decides what a message row holds.
"""
