"""``ackstream replay``, and the start of a replay that other commands share.

`replay` has the commands; `runner` starts a replay and shows its progress.
"""
