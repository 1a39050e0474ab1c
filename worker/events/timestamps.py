"""Every form of time that Vonage's payloads have been seen with. No I/O.

ISO 8601 with Z, an offset or none; ``2020-01-01 14:00:00 +0000``; ``… UTC``; a delivery receipt's ``scts``, which is
``YYMMDDHHMM`` or an epoch. Without a zone it is UTC.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

from stream.entry import LATEST_MS

FIRST_YEAR, LAST_YEAR = 1970, 9998  # beyond lies nothing a provider means; at the ends asyncpg reads infinity
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_TIME = 64  # characters; the longest form seen has 32

_CALENDAR = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s*(?:(?:Z|UTC|GMT)|([+-])(\d\d):?(\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)
_COMMON = "2020-01-01T14:00:00Z", "2020-01-01T14:00:00.000Z", "2020-01-01T14:00:00.000000Z"
_COMMON_LENGTHS = frozenset(map(len, _COMMON))
_T = len("2020-01-01")
_COMPACT = re.compile(r"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)", re.ASCII)
_EPOCH = re.compile(r"\d{9,10}|\d{13}", re.ASCII)
_EPOCH_MS_DIGITS = 13
_LONGEST_INTEGER_BITS = 64
_FLOAT_MS = 2**32 * 1000  # until here, in 2106, seconds in a float are exact to far less than a microsecond


def from_ms(ms: int) -> datetime:
    """Return the moment, exact to the millisecond; the first way takes half as long."""
    return datetime.fromtimestamp(ms / 1000, UTC) if ms < _FLOAT_MS else EPOCH + timedelta(milliseconds=ms)


def iso_time(ms: int | None) -> str | None:
    """Return the moment in ISO 8601; None for none, and for one after the year 9999."""
    return None if ms is None or ms > LATEST_MS else from_ms(ms).isoformat()


def parse_time(value: object, received_at: datetime) -> datetime | None:
    """Return the moment in UTC, digits past the microsecond cut off; None for what is no time (seen: ``{}``).

    Ten digits can be ``YYMMDDHHMM`` and an epoch: they are the one that is nearer to when the payload was received.
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _LONGEST_INTEGER_BITS:
        text = str(value)
    else:
        return None
    if len(text) > LONGEST_TIME:
        return None
    if moment := _common(text):
        return moment if FIRST_YEAR <= moment.year <= LAST_YEAR else None
    readings = [moment for moment in _readings(text.strip()) if FIRST_YEAR <= moment.year <= LAST_YEAR]
    return min(readings, key=lambda moment: abs(moment - received_at), default=None)


def _common(text: str) -> datetime | None:
    """Read the form of nearly all, in a tenth of the time."""
    if len(text) not in _COMMON_LENGTHS or text[_T] != "T" or text[-1] != "Z":
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _readings(text: str) -> Iterator[datetime]:
    """Yield every moment that the text can mean."""
    for read in (_calendar, _compact, _epoch):
        try:
            moment = read(text)
        except (ValueError, OverflowError):  # no such day, or beyond what a datetime holds
            continue
        if moment is not None:
            yield moment


def _calendar(text: str) -> datetime | None:
    found = _CALENDAR.fullmatch(text)
    if not found:
        return None
    *date, second, fraction, sign, zone_hours, zone_minutes = found.groups()
    offset = timedelta(hours=int(zone_hours or 0), minutes=int(zone_minutes or 0))
    zone = timezone(-offset if sign == "-" else offset) if sign else UTC
    microsecond = int((fraction or "").ljust(6, "0")[:6])
    year, month, day, hour, minute = map(int, date)
    return datetime(year, month, day, hour, minute, int(second or 0), microsecond, tzinfo=zone).astimezone(UTC)


def _compact(text: str) -> datetime | None:
    """Read YYMMDDHHMM."""
    found = _COMPACT.fullmatch(text)
    if not found:
        return None
    year, month, day, hour, minute = map(int, found.groups())
    return datetime(2000 + year, month, day, hour, minute, tzinfo=UTC)


def _epoch(text: str) -> datetime | None:
    if not _EPOCH.fullmatch(text):
        return None
    milliseconds = int(text) if len(text) == _EPOCH_MS_DIGITS else int(text) * 1000
    return from_ms(milliseconds)
