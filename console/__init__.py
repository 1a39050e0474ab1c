"""The `ackstream` command, for operators.

Start with `main`, which lists the commands.
"""
