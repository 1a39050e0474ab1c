"""Errors that a process reports in a sentence, without a traceback."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, or a second signal."""


class CommandError(Exception):
    """The process cannot do its work. The text gives the reason and the next step; the exit code is 1."""


class PartlyDone(Exception):  # noqa: N818 - named for what has happened
    """An act has changed something, and then failed. The text says what was done, why it ended, and the next step."""


class WrongValue(ValueError):  # noqa: N818 - named for what it is
    """A setting's value cannot be used. The text gives the reason and quotes no secret, so an error may show it."""
