import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from worker.handlers.errors import LONGEST_DELAY_SECONDS, Discard, Retry, TimedOut
from worker.settle.retry_policy import LONGEST_ERROR, Disposition, RetryPolicy, failure_kind

POLICY = RetryPolicy(base_seconds=8, cap_seconds=100, attempts=3)
NUMBER = "447700900123"


@pytest.mark.parametrize(
    ("error", "attempt", "said", "delay"),
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
    ],
)
def test_what_becomes_of_an_event(error: BaseException, attempt: int, said: str, delay: float | None) -> None:
    """By what was raised and the number of the attempt; here by half the longest delay.

    The last attempt has a delay too: whether the event or its target is at fault, the settle script decides.
    """
    last = attempt == 3 and delay is not None
    assert POLICY.decide(error, attempt, 0.5) == Disposition(said, delay, last=last, counts=not last)
    if delay is not None:
        assert POLICY.decide(error, attempt, 0.5, stopping=True) == Disposition(said, delay, counts=not last)


def test_an_errors_place_is_told_and_its_text_is_not() -> None:
    """The class of the error, that of its cause, and the line: its text may quote what nobody shall see."""
    with pytest.raises(ValueError, match=NUMBER) as caught:
        raise ValueError(NUMBER) from KeyError(NUMBER)
    said = POLICY.decide(caught.value, 1, 0.5).error
    assert said == f"failed: ValueError < KeyError at test_retry_policy.py:{caught.traceback[-1].lineno + 1}"


def test_of_a_librarys_error_the_callers_line_is_told() -> None:
    """The last line that is in no library, for that is where one looks first."""
    with pytest.raises(InvalidArgument) as caught:
        st.integers(2, 1).validate()
    assert "hypothesis" in str(caught.traceback[-1].path)
    assert POLICY.decide(caught.value, 1, 0.5).error.startswith("failed: InvalidArgument at test_retry_policy.py:")


@given(st.text() | st.text(st.characters(categories=["Cs"])), st.booleans())
def test_a_handlers_own_words_always_fit(words: str, discard: bool) -> None:
    """Of any length and with anything in them, they are a text of bounded length in UTF-8."""
    error = POLICY.decide(Discard(words) if discard else Retry(1, words * 100), 1, 0.5).error
    assert len(error.encode()) <= 4 * LONGEST_ERROR


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan, LONGEST_DELAY_SECONDS + 1])
def test_a_delay_that_makes_no_sense_is_the_handlers_error(seconds: float) -> None:
    """It raises ValueError where it is made: the event then fails with that, at that line."""
    with pytest.raises(ValueError, match="after_seconds is not a number from 0 to 86400"):
        Retry(seconds)


@pytest.mark.parametrize(("error", "name"), [(TimedOut(1), "timeout"), (Retry(1), "Retry"), (OSError(), "OSError")])
def test_failures_are_counted_by_a_few_names(error: BaseException, name: str) -> None:
    """The class of what was raised; of a handler past its time, `timeout`."""
    assert failure_kind(error) == name
