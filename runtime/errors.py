"""What ends a process at its start: the one kind of error that is told in a sentence, without a traceback."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, or a second signal."""


class Refusal(Exception):  # noqa: N818 - named for what the process does
    """The process cannot do its work as things stand; the text says why, and what to do. The exit code is 1."""


class WrongValue(ValueError):  # noqa: N818 - named for what it is
    """A setting's value cannot be used; the text says why and quotes nothing secret, so a refusal shows it."""
