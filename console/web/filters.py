"""Jinja filters: numbers, rates, ages, times and sizes, the same way on every page. Unknown is a dash, never 0."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite

from markupsafe import Markup, escape

from worker.events.event import mask

UNKNOWN = "\N{EN DASH}"
GAP = "\N{NO-BREAK SPACE}"
BULLET = "•"

_CODE = re.compile(r"`([^`]+)`")
_BULLETS = re.compile(f"{BULLET}{{4,}}")

SHOWN_DIGITS = 4
"""The digits that a masked number shows."""

_EXACT_BELOW = 10_000_000
_MILLION, _BILLION = 1_000_000, 1_000_000_000
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
_HOUR, _DAY = 3600, 86_400
_FEW_PERCENT = 2
_BYTES = ("B", "KB", "MB", "GB", "TB")
_STEP, _KILOBYTE = 1000, 1024
_TENTHS_BELOW = 10
_SPARK_WIDTH, _SPARK_HEIGHT = 88, 24


def format_number(value: float | None, limit: int | None = None) -> str:
    """Return ``1,204``, and from ten million ``12.3 million``. A count at its ``limit`` has a plus: ``10,000+``."""
    if value is None:
        return UNKNOWN
    plus = "+" if limit is not None and value >= limit else ""
    if value < _EXACT_BELOW:
        return f"{value:,.0f}{plus}"
    return f"{GAP.join(split_number(value))}{plus}"


def format_price(text: str | None) -> str:
    """Return a decimal number of the provider without zeros at its end: ``0.041`` of ``0.04100000``."""
    if not text:
        return UNKNOWN
    whole, point, rest = text.partition(".")
    rest = rest.rstrip("0")
    return f"{whole}{point if rest else ''}{rest}"


def split_number(value: float | None) -> tuple[str, str]:
    """Return a large figure and its word from a million: ``("8.81", "million")``, ``("214,906", "")``."""
    if value is None or value < _MILLION:
        return format_number(value), ""
    word, size = ("billion", _BILLION) if value >= _BILLION else ("million", _MILLION)
    return f"{value / size:.{_decimals(value / size)}f}", word


def format_rate(value: float | None) -> str:
    """Return a number a second: one decimal, none from a thousand, and ``0`` for none."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    return f"{value:,.1f}" if value < _STEP else format_number(value)


def format_percent(share: float | None) -> str:
    """Return a share of 1 as percent: one decimal, two under 2 %, none for 0 and 100."""
    if share is None:
        return UNKNOWN
    percent = share * 100
    if percent in (0, 100):
        return f"{percent:.0f}{GAP}%"
    return f"{percent:.{2 if percent < _FEW_PERCENT else 1}f}{GAP}%"


def format_duration(seconds: float | None) -> str:
    """Return a length of time in two units at most: ``38 ms``, ``1.2 s``, ``4 min 12 s``, ``2 d 3 h``."""
    if seconds is None or not isfinite(seconds):
        return UNKNOWN
    if seconds == 0:
        return f"0{GAP}s"
    if seconds < 1:
        ms = seconds * 1000
        return f"{ms:.1f}{GAP}ms" if ms < _TENTHS_BELOW else f"{ms:.0f}{GAP}ms"
    if seconds < _TENTHS_BELOW:
        return f"{seconds:.1f}{GAP}s"
    whole = round(seconds)
    place = next(place for place, (_, size) in enumerate(_UNITS) if whole >= size)
    parts: list[str] = []
    for unit, size in _UNITS[place : place + 2]:
        number, whole = divmod(whole, size)
        if number or not parts:
            parts.append(f"{number}{GAP}{unit}")
    return " ".join(parts)


def format_age(seconds: float | None) -> str:
    """Return the age of something: tenths of a second below ten seconds, so that small ages do not flicker."""
    if seconds is None or seconds >= _TENTHS_BELOW:
        return format_duration(seconds)
    return f"{seconds:.1f}".replace("0.0", "0") + f"{GAP}s"


def format_bytes(number: float | None) -> str:
    """Return a number of bytes in the largest unit in which it is at least 1; as in Redis, 1 KB is 1024 bytes."""
    if number is None:
        return UNKNOWN
    value = float(number)
    for unit in _BYTES:
        if value < _KILOBYTE or unit == _BYTES[-1]:
            break
        value /= _KILOBYTE
    text = f"{value:.1f}".removesuffix(".0") if value < _TENTHS_BELOW else f"{value:.0f}"
    return f"{text}{GAP}{unit}"


def format_clock(moment: datetime | str | float | None, now: datetime | None = None, *, ms: bool = False) -> Markup:
    """Return a ``<time>`` element: the time of today, ``14:32:07``; on other days with the date, ``21 Nov 08:10``.

    ``moment`` is an aware datetime, ISO 8601 or Unix seconds. The text is UTC; the browser rewrites it if the person
    chose the device's time zone.
    """
    at = to_datetime(moment)
    if at is None:
        return escape(UNKNOWN)
    today = (now or datetime.now(UTC)).date()
    clock = f"{at:%H:%M:%S}" + (f".{at.microsecond // 1000:03}" if ms else "")
    if at.date() != today:
        year = "" if at.year == today.year else f" {at.year}"
        clock = f"{at.day} {at:%b}{year} {clock if ms else f'{at:%H:%M}'}"
    iso = at.isoformat(timespec="milliseconds" if ms else "seconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}"{}>{}</time>').format(iso, Markup(" data-ms") if ms else "", clock)


def format_day(moment: datetime | str | float | None) -> str:
    """Return a day of UTC: ``21 Nov``, in another year with the year."""
    at = to_datetime(moment)
    if at is None:
        return UNKNOWN
    return f"{at.day} {at:%b}" + ("" if at.year == datetime.now(UTC).year else f" {at.year}")


def to_datetime(moment: datetime | str | float | None) -> datetime | None:
    """Return an aware datetime in UTC; None for None."""
    if moment is None:
        return None
    if isinstance(moment, int | float):
        return datetime.fromtimestamp(moment, UTC)
    return (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).astimezone(UTC)


def mask_number(text: str | None, *, is_short: bool = True) -> str:
    """Return a phone number with only its last four digits, in lists after four bullets. Names of senders stay.

    A number that is masked already stays as it is.
    """
    if not text:
        return UNKNOWN
    is_masked = "*" in text and len(re.findall(r"\d", text)) <= SHOWN_DIGITS
    masked = (text if is_masked else mask(text) or "").replace("*", BULLET)
    return _BULLETS.sub(BULLET * 4, masked) if is_short else masked


def show_masked(text: str | None) -> str:
    """Return a number that is masked with asterisks already, in lists: four bullets and its last digits."""
    return _BULLETS.sub(BULLET * 4, text.replace("*", BULLET)) if text else UNKNOWN


def count_noun(number: float | None, singular: str, plural: str = "") -> str:
    """Return the number with its noun: ``1 group``, ``2 groups``."""
    return f"{format_number(number)} {singular if number == 1 else plural or f'{singular}s'}"


def draw_spark(values: Sequence[float | None]) -> str:
    """Return the path of a small line chart of 88 by 24; gaps where a value is unknown."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return ""
    highest = max(*numbers, 1)
    step = _SPARK_WIDTH / max(len(values) - 1, 1)
    path, is_gap = [], True
    for place, value in enumerate(values):
        if value is not None:
            y = _SPARK_HEIGHT - value / highest * (_SPARK_HEIGHT - 2)
            path.append(f"{'M' if is_gap else 'L'}{place * step:.1f} {y:.1f}")
        is_gap = value is None
    return "".join(path)


def join_lines(text: str) -> Markup:
    """Return the text with a line break element for each newline."""
    return Markup("<br>").join(escape(line) for line in text.split("\n"))


def mark_code(text: str) -> Markup:
    """Return a sentence with an element for each command between backticks."""
    return escape(text) if "`" not in text else Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


def _decimals(value: float) -> int:
    return max(3 - len(f"{value:.0f}"), 0)


FILTERS = {
    "age": format_age,
    "bullets": show_masked,
    "bytes": format_bytes,
    "clock": format_clock,
    "day": format_day,
    "code": mark_code,
    "duration": format_duration,
    "lines": join_lines,
    "masked": mask_number,
    "noun": count_noun,
    "number": format_number,
    "percent": format_percent,
    "price": format_price,
    "rate": format_rate,
    "spark": draw_spark,
    "split_number": split_number,
}
