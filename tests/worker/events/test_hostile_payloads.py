"""Parsing a payload is cheap for any contents."""

import heapq

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.samples.events import event
from tests.support.samples.hostile import (
    ENDINGS,
    LONGEST,
    MESSAGE_PATHS,
    RECEIPT_PATHS,
    UNITS,
    corpus,
    cpu_seconds,
    long_text,
    peak_bytes,
    put,
)
from worker.events.event import InvalidStatus, StatusEvent

MOST_SECONDS = 0.5  # of CPU time, on a slow machine
MOST_BYTES = 16 * 2**20
MOST_GROWTH = 2.5
CHEAP_SECONDS = 0.0002  # of less than this, most is the system giving memory for a long text


def test_no_hostile_payload_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    """Each JSON type, endless digits and texts, nesting and regex traps in each field take little CPU and memory.

    Payloads of an eighth of the length show which are slow for more than their length. Those, and each value in one
    field, are parsed at full length.
    """
    timed = [(cpu_seconds(event, payload, runs=1), number) for number, payload in enumerate(corpus(LONGEST // 8))]
    suspects = {number for _, number in heapq.nlargest(20, timed)}
    every_value = range(0, len(timed), len(MESSAGE_PATHS) + len(RECEIPT_PATHS) + 1)
    payloads = [payload for number, payload in enumerate(corpus()) if number in suspects or number in every_value]

    once = [(cpu_seconds(event, payload, runs=1), payload) for payload in payloads]
    measured = [(cpu_seconds(event, payload), payload) for _, payload in heapq.nlargest(10, once)]
    seconds, slowest = max(measured)
    half = cpu_seconds(event, slowest[: len(slowest) // 2])
    peak = max(peak_bytes(event, payload) for _, payload in heapq.nlargest(5, measured))  # tracing is slow
    with capsys.disabled():
        print(  # noqa: T201 - figures for people
            f"\nslowest of the hostile payloads: {seconds * 1000:.1f} ms of CPU for {len(slowest):,} bytes, "
            f"{half * 1000:.1f} ms for half of them ({slowest[:60]!r}); at most {peak / 2**20:.1f} MiB of memory"
        )
    assert seconds < MOST_SECONDS
    assert peak < MOST_BYTES


@settings(max_examples=60)
@given(
    st.sampled_from([(path, False) for path in MESSAGE_PATHS] + [(path, True) for path in RECEIPT_PATHS]),
    st.sampled_from(UNITS) | st.text(min_size=1, max_size=3).map(lambda text: orjson.dumps(text)[1:-1]),
    st.sampled_from(ENDINGS),
)
def test_twice_the_length_takes_about_twice_the_time(field: tuple[str, bool], unit: bytes, ending: bytes) -> None:
    """Doubling the length of any field multiplies the CPU time by at most 2.5."""
    path, receipt = field
    short, long = (put(path, long_text(unit, size, ending), receipt=receipt) for size in (LONGEST // 2, LONGEST))

    least = {short: float("inf"), long: float("inf")}
    for _ in range(100):  # in turn, and only the least counts: a busy machine disturbs short times
        for payload, seconds in least.items():
            least[payload] = min(seconds, cpu_seconds(event, payload, runs=2))
        if least[long] <= MOST_GROWTH * max(least[short], CHEAP_SECONDS):
            return
    assert least[long] <= MOST_GROWTH * max(least[short], CHEAP_SECONDS)


@pytest.mark.parametrize(
    ("path", "receipt"), [(path, False) for path in MESSAGE_PATHS] + [(path, True) for path in RECEIPT_PATHS]
)
def test_only_an_invalid_id_or_status_makes_a_payload_invalid(path: str, *, receipt: bool) -> None:
    """Any other unreadable or too long field becomes None."""
    decisive = path in ("messageId", "message-id", "status") if receipt else path in ("message_uuid", "status")
    for value in (b"1" * 5000, b'"%b"' % (b"y" * 5000), b"[" * 300 + b"]" * 300, b'{"a":1.5}', b'"\\ud83d"', b'"\xe9"'):
        try:
            status_event = event(put(path, value, receipt=receipt))
        except InvalidStatus:
            assert decisive
        else:
            texts = (getattr(status_event, name) for name in StatusEvent.__slots__)
            assert all(len(text) <= 1024 for text in texts if isinstance(text, str))
