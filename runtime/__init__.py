"""Parts that every process uses: signals, health, logs, metrics, back-off, file locks. Imports no other package here.

Start with `process`.
"""
