"""The subcommands of `ackstream`: arguments in, text or JSON out.

Each module describes its options at import and imports what does the work when a command runs.
Start with `trace`, the simplest one.
"""
