"""What a handler may say of the events it was given. To return says that they are handled. No I/O.

========================  ==========================================================================================
a handler                 then
========================  ==========================================================================================
returns                   the event is handled
raises ``Discard``        it is a dead letter at once
raises ``Retry``          it is tried again after the time that the handler chose
raises ``Throttled``      likewise, and the target as a whole wants to wait
raises ``Unavailable``    it is tried again until the target is back; no attempt is counted
raises ``Gone``           the group is paused until an operator resumes it; no attempt is counted
raises anything else      it is tried again by the schedule (worker.schedule), and a dead letter after the last attempt
========================  ==========================================================================================
"""

import math

LONGEST_DELAY_SECONDS = 24 * 3600.0


class Discard(Exception):  # noqa: N818 - these are named for what the handler wants
    """Give the event up: it becomes a dead letter with this reason, which people will read."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(Exception):  # noqa: N818
    """Try the event again after so many seconds, 0 to 24 h. It counts as an attempt. Raises ValueError for others."""

    def __init__(self, after_seconds: float, reason: str | None = None) -> None:
        if not (math.isfinite(after_seconds) and 0 <= after_seconds <= LONGEST_DELAY_SECONDS):
            raise ValueError(f"after_seconds is not a number from 0 to {LONGEST_DELAY_SECONDS:.0f}")
        super().__init__(reason or f"again in {after_seconds:g} s")
        self.after_seconds = after_seconds
        self.reason = reason


class Throttled(Retry):
    """The target as a whole asks to wait so many seconds. It counts as an attempt. ``answer`` as in Refused."""

    def __init__(self, after_seconds: float, reason: str, answer: str = "") -> None:
        super().__init__(after_seconds, reason)
        self.args = (with_answer(reason, answer),)


class Refused(Exception):  # noqa: N818
    """The target did not take the event: it is tried again by the schedule.

    ``reason`` says why in words of our own. ``answer`` is what the target said, which may quote private data: it is in
    the error's text only, and a log has the reason.
    """

    def __init__(self, reason: str, answer: str = "") -> None:
        super().__init__(with_answer(reason, answer))
        self.reason = reason


class Unavailable(Exception):  # noqa: N818
    """The target as a whole is away: no event is at fault, so none is counted, parked or given up for it."""


class Gone(Exception):  # noqa: N818
    """The target wants no more events at all: the group is to be paused until somebody has decided what now."""


class Divide(Exception):  # noqa: N818
    """One of these events, and not the target, is at fault: hand them over again in smaller lists, at once."""


class TimedOut(Exception):  # noqa: N818
    """The handler was not done within its time, and was cancelled."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not done within {seconds:g} s")


def with_answer(reason: str, answer: str) -> str:
    """Return the text of an error that has a reason and what the target said."""
    return f"{reason}: {answer}" if answer else reason


def is_target_failure(error: BaseException | None) -> bool:
    """Whether this speaks against the target or the handler: a failure that is no judgement of this one event."""
    if isinstance(error, Throttled):
        return True
    return error is not None and not isinstance(error, Discard | Retry | Divide)
