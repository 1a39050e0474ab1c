"""The checker: a process that sends each load, and compares what was answered 200 with what the system shows."""
