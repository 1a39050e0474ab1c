from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.events.timestamps import parse_time

RECEIVED_AT = datetime(2020, 1, 1, 14, 0, 1, tzinfo=UTC)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2020-01-01T14:00:00.000Z", utc(2020, 1, 1, 14)),
        ("2025-02-03T12:14:25Z", utc(2025, 2, 3, 12, 14, 25)),
        ("2020-01-01 14:00:00 +0000", utc(2020, 1, 1, 14)),
        ("2020-01-01 15:43:21 +0200", utc(2020, 1, 1, 13, 43, 21)),
        ("2020-01-01 00:43:21 -05:30", utc(2020, 1, 1, 6, 13, 21)),
        ("2020-01-01 14:00:00 UTC", utc(2020, 1, 1, 14)),
        ("2018-10-25 12:10:29", utc(2018, 10, 25, 12, 10, 29)),
        ("2020-01-01T12:00:00.000+00:00", utc(2020, 1, 1, 12)),
        ("2020-01-01T12:00:00.123456789Z", utc(2020, 1, 1, 12, 0, 0, 123456)),
        ("2020-01-01T12:00Z", utc(2020, 1, 1, 12)),
        ("2020-01-01T12:00:00    Z", utc(2020, 1, 1, 12)),  # as long as the common form with milliseconds
        ("2001011400", utc(2020, 1, 1, 14)),
        ("1810251310", utc(2018, 10, 25, 13, 10)),
        ("1577880000", utc(2020, 1, 1, 12)),
        ("1234567890", utc(2009, 2, 13, 23, 31, 30)),
        ("1577880000123", utc(2020, 1, 1, 12, 0, 0, 123000)),
        (1582650446, utc(2020, 2, 25, 17, 7, 26)),
    ],
)
def test_every_form_of_the_provider_is_read(value: object, moment: datetime) -> None:
    """Each form gives the time in UTC."""
    assert parse_time(value, RECEIVED_AT) == moment


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        True,
        1.5,
        "",
        "today",
        "2020-13-01T00:00:00Z",
        "2020-01-01T14:60:00Z",
        "0001-01-01 00:00:00 +0200",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59.999999Z",
    ],
)
def test_an_unreadable_time_is_none(value: object) -> None:
    """No value raises an error; the event then has only its time of receipt."""
    assert parse_time(value, RECEIVED_AT) is None


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        ("1801152030", utc(2027, 1, 28, 16, 0, 30)),
        ("1801152030", utc(2018, 1, 15, 20, 30)),
        ("2601010000", utc(2026, 1, 1)),
        ("2601010000", utc(2052, 6, 3, 6, 46, 40)),
        ("1812312359", utc(2027, 6, 6, 20, 5, 59)),
    ],
)
def test_ten_digits_are_the_reading_nearer_to_the_receipt(digits: str, expected: datetime) -> None:
    """If ten digits are both a date and an epoch, the one nearer to the time of receipt counts, also for a number."""
    for received_at in (expected, expected + timedelta(days=2), expected - timedelta(minutes=1)):
        assert parse_time(digits, received_at) == parse_time(int(digits), received_at) == expected


@given(
    st.text() | st.integers() | st.from_regex(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d( ?[+-]\d\d:?\d\d|Z)?", fullmatch=True)
)
def test_any_value_gives_a_utc_time_or_none(value: object) -> None:
    """Every value gives an aware time in UTC, or None."""
    moment = parse_time(value, RECEIVED_AT)
    assert moment is None or moment.tzinfo is UTC
