"""The exceptions that a handler may raise, and how the worker settles the event. No I/O.

========================  ==========================================================================================
a handler                 the worker
========================  ==========================================================================================
returns                   acks the entry
raises ``Discard``        dead-letters the event at once
raises ``Retry``          tries the event again after the delay that the handler chose
raises ``Throttled``      does the same, and counts it as a failure of the target
raises ``Unavailable``    tries the event again until the target is back, and counts no attempt
raises ``Gone``           pauses the group until an operator resumes it, and counts no attempt
raises another exception  tries again (worker.settle.retry_policy), and dead-letters it after the last attempt
========================  ==========================================================================================
"""

import math

LONGEST_DELAY_SECONDS = 24 * 3600.0


class Discard(Exception):  # noqa: N818 - the names in this module say how the worker must settle the event
    """Dead-letter the event at once. Operators read the reason."""

    reason: str = "no reason given"  # of a subclass that does not call our constructor

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Retry(Exception):  # noqa: N818
    """Try the event again after a delay of 0 to 24 h, and count the attempt. Raises ValueError for another delay."""

    after_seconds: float | None = None  # without our constructor the schedule decides
    reason: str | None = None

    def __init__(self, after_seconds: float, reason: str | None = None) -> None:
        if not (math.isfinite(after_seconds) and 0 <= after_seconds <= LONGEST_DELAY_SECONDS):
            raise ValueError(f"after_seconds is not a number from 0 to {LONGEST_DELAY_SECONDS:.0f}")
        super().__init__(reason or f"again in {after_seconds:g} s")
        self.after_seconds = after_seconds
        self.reason = reason


class Throttled(Retry):
    """The target asks the group to wait. The attempt counts. ``answer`` is as in Refused."""

    def __init__(self, after_seconds: float, reason: str, answer: str = "") -> None:
        super().__init__(after_seconds, reason)
        self.args = (with_answer(reason, answer),)


class Refused(Exception):  # noqa: N818
    """The target did not accept the event. The worker tries it again by the schedule.

    ``reason`` is a text of Ackstream and may be logged. ``answer`` is the answer of the target and may contain private
    data, so it is only in the text of the error, and logs have the reason.
    """

    def __init__(self, reason: str, answer: str = "") -> None:
        super().__init__(with_answer(reason, answer))
        self.reason = reason


class Unavailable(Exception):  # noqa: N818
    """The target is away and no event is at fault: none is delayed or dead-lettered, and no attempt is counted."""


class Gone(Exception):  # noqa: N818
    """The target refuses all further events. The group is paused until an operator resumes it."""


class Divide(Exception):  # noqa: N818
    """An event of the list, and not the target, is at fault. The worker calls the handler again with smaller lists."""


class TimedOut(Exception):  # noqa: N818
    """The handler did not return within its time limit and was cancelled."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not done within {seconds:g} s")


def with_answer(reason: str, answer: str) -> str:
    """Return the text of an error: the reason, and the answer of the target if there is one."""
    return f"{reason}: {answer}" if answer else reason


def is_target_failure(error: BaseException | None) -> bool:
    """Whether the target or the handler is at fault, not only this event. The circuit breaker counts such errors."""
    if isinstance(error, Throttled):
        return True
    return error is not None and not isinstance(error, Discard | Retry | Divide)
