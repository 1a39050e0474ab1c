import math
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from worker.handlers.errors import LONGEST_DELAY_SECONDS, Discard, Retry, TimedOut
from worker.settle.retry_policy import LONGEST_ERROR, Disposition, RetryPolicy, error_message, failure_kind


class Later(Retry):
    """A user's subclass that does not call the constructor of Retry."""

    def __init__(self, after_seconds: Any = None, reason: Any = None) -> None:
        Exception.__init__(self)
        if after_seconds is not None:
            self.after_seconds = after_seconds
        self.reason = reason


class Never(Discard):
    """A user's subclass that does not call the constructor of Discard."""

    def __init__(self) -> None: ...


class Unreadable(Discard):
    """A user's subclass whose reason cannot be read."""

    reason = property()

    def __init__(self) -> None: ...


class Undated(Later):
    """A user's subclass whose delay cannot be read."""

    after_seconds = property()


class Silent(Exception):  # noqa: N818 - of a user
    """An error without a text."""

    def __str__(self) -> str:
        raise SystemExit


POLICY = RetryPolicy(base_seconds=8, cap_seconds=100, attempts=3)
NUMBER = "447700900123"


@pytest.mark.parametrize(
    ("error", "attempt", "text", "delay"),
    [
        (ValueError(NUMBER), 1, "failed: ValueError", 4),
        (ValueError(NUMBER), 2, "failed: ValueError", 8),
        (ValueError(NUMBER), 3, "failed: ValueError", 16),
        (TimedOut(60), 1, "timeout: not done within 60 s", 4),
        (TimedOut(60), 3, "timeout: not done within 60 s", 16),
        (Retry(30, "too early"), 1, "retry: too early", 30),
        (Retry(30), 2, "retry: asked for by the handler", 30),
        (Retry(30, "too early"), 3, "retry: too early", 30),
        (Discard("not ours"), 1, "discarded: not ours", None),
        (Discard("not ours"), 3, "discarded: not ours", None),
        (TimeoutError(NUMBER), 1, "failed: TimeoutError", 4),
        (Later(), 2, "retry: asked for by the handler", 8),
        (Later("soon"), 2, "retry: asked for by the handler", 8),
        (Later(math.nan, Silent()), 2, "retry: asked for by the handler", 8),
        (Never(), 1, "discarded: no reason given", None),
        (Undated(), 1, "retry: asked for by the handler", 4),
        (Unreadable(), 1, "discarded: ", None),
        (Discard(cast("str", Silent())), 1, "discarded: ", None),
        (Silent(), 1, "failed: Silent", 4),
    ],
)
def test_the_decision_on_a_failed_event(error: BaseException, attempt: int, text: str, delay: float | None) -> None:
    """The error and the attempt decide; the delays are half the longest ones.

    The last attempt has a delay too, because the settle script decides whether the event or its target is at fault.
    """
    last = attempt == 3 and delay is not None
    assert POLICY.decide(error, attempt, 0.5) == Disposition(text, delay, last=last, counts=not last)
    if delay is not None:
        assert POLICY.decide(error, attempt, 0.5, stopping=True) == Disposition(text, delay, counts=not last)


def test_an_error_has_its_place_and_not_its_text() -> None:
    """The text has the classes of the error and its cause, and the line, but not the error's own text."""
    with pytest.raises(ValueError, match=NUMBER) as caught:
        raise ValueError(NUMBER) from KeyError(NUMBER)
    text = POLICY.decide(caught.value, 1, 0.5).error
    assert text == f"failed: ValueError < KeyError at test_retry_policy.py:{caught.traceback[-1].lineno + 1}"


def test_the_place_of_a_librarys_error_is_the_callers_line() -> None:
    """The place of a library's error is the last line outside libraries."""
    with pytest.raises(InvalidArgument) as caught:
        st.integers(2, 1).validate()
    assert "hypothesis" in str(caught.traceback[-1].path)
    assert POLICY.decide(caught.value, 1, 0.5).error.startswith("failed: InvalidArgument at test_retry_policy.py:")


@given(st.text() | st.text(st.characters(categories=["Cs"])), st.booleans())
def test_a_handlers_own_words_always_fit(words: str, discard: bool) -> None:
    """Any words of a handler become valid UTF-8 of bounded length."""
    error = POLICY.decide(Discard(words) if discard else Retry(1, words * 100), 1, 0.5).error
    assert len(error.encode()) <= 4 * LONGEST_ERROR


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan, LONGEST_DELAY_SECONDS + 1])
def test_an_invalid_delay_is_the_handlers_error(seconds: float) -> None:
    """Retry raises ValueError for an invalid delay, so the event fails at that line."""
    with pytest.raises(ValueError, match="after_seconds is not a number from 0 to 86400"):
        Retry(seconds)


@pytest.mark.parametrize(("error", "name"), [(TimedOut(1), "timeout"), (Retry(1), "Retry"), (OSError(), "OSError")])
def test_failures_are_counted_by_a_few_names(error: BaseException, name: str) -> None:
    """A failure is counted by the class of its error, or as `timeout`."""
    assert failure_kind(error) == name


def test_an_error_without_a_text_has_an_empty_message() -> None:
    """A class whose text raises an error, even one that ends a process, fails its event like any other."""
    assert error_message(Silent()) == ""
