"""Runs everything on one machine, with an embedded Valkey.

Start with `supervisor`.
"""
