"""The subcommands of `ackstream`: arguments in, text or JSON out."""
