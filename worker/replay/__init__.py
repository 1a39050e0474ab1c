"""Replays stored entries to one group at a rate.

Start with `job`; `copier` does the work.
"""
