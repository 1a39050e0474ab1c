"""What every process needs: signals, health, logs, metrics, back-off, file locks. Imports none of our packages.

Start with `process`.
"""
