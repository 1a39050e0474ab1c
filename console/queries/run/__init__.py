"""Queries of the console's pages on groups, replays and settings: cheap enough for a page, and none waits.

Start with `group_overview`.
"""
