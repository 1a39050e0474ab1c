"""Copies stored entries to one group, at a limited rate.

Start with `job`; `copier` does the work.
"""
