"""Run all processes on one machine, with an embedded Valkey.

Start with `supervisor`.
"""
