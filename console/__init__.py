"""The `ackstream` command and what it shows: everything a person uses."""
