"""Erases messages for the page of a message: counts first, and erases what a person has confirmed.

Start with `board`.
"""
