"""The subcommands of `ackstream`: arguments in, text or JSON out.

Each module defines its options at import, and imports all other code when a command runs.
Start with `trace`, the simplest one.
"""
