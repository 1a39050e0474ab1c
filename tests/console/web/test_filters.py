from datetime import UTC, datetime
from typing import Any

import pytest

from console.web import filters
from console.web.filters import GAP, UNKNOWN

NOW = datetime(2026, 11, 28, 14, 32, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("number", None, UNKNOWN),
        ("number", 0, "0"),
        ("number", 9_999_999, "9,999,999"),
        ("number", 12_345_678, "12.3 million"),
        ("number", 8_810_000_000, "8.81 billion"),
        ("rate", None, UNKNOWN),
        ("rate", 0.0, "0"),
        ("rate", 86.44, "86.4"),
        ("rate", 1234.5, "1,234"),
        ("price", None, UNKNOWN),
        ("price", "0.04100000", "0.041"),
        ("price", "10", "10"),
        ("price", "2.00", "2"),
        ("percent", None, UNKNOWN),
        ("percent", 0.0, "0 %"),
        ("percent", 1.0, "100 %"),
        ("percent", 0.0012, "0.12 %"),
        ("percent", 0.964, "96.4 %"),
        ("duration", None, UNKNOWN),
        ("duration", 0.0014, "1.4 ms"),
        ("duration", 0.038, "38 ms"),
        ("duration", 1.24, "1.2 s"),
        ("duration", 252, "4 min 12 s"),
        ("duration", 120, "2 min"),
        ("duration", 183_600, "2 d 3 h"),
        ("age", 0.02, "0 s"),
        ("age", 0.36, "0.4 s"),
        ("age", 61, "1 min 1 s"),
        ("bytes", None, UNKNOWN),
        ("bytes", 512, "512 B"),
        ("bytes", 2**30, "1 GB"),
        ("bytes", 6_300_000_000, "5.9 GB"),
        ("bytes", 512 * 1024, "512 KB"),
        ("masked", None, UNKNOWN),
        ("masked", "447700900042", "••••0042"),
        ("masked", "AcmeInc", "AcmeInc"),
        ("noun", 1, None),
    ],
)
def test_numbers_look_the_same_everywhere(name: str, value: Any, text: str | None) -> None:
    """A number has its commas, unit and precision; an unknown one is a dash and never 0."""
    arguments = ("group",) if name == "noun" else ()

    shown = filters.FILTERS[name](value, *arguments)  # type: ignore[operator]

    assert shown.replace(GAP, " ") == (text or "1 group")


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        ("2026-11-28T12:14:05.402+00:00", "12:14:05"),
        ("2026-11-21T09:10:00+01:00", "21 Nov 08:10"),
        ("2025-01-02T03:04:05Z", "2 Jan 2025 03:04"),
    ],
)
def test_a_time_says_its_day_unless_it_is_today(moment: str, text: str) -> None:
    """The element has the exact time in UTC for the script, and the text for people."""
    shown = filters.format_clock(moment, NOW)

    assert shown.endswith(f">{text}</time>")
    assert shown.startswith('<time datetime="202')


def test_an_unknown_time_is_a_dash() -> None:
    """A missing time is no element."""
    assert filters.format_clock(None, NOW) == UNKNOWN


def test_commands_in_sentences_are_code_and_markup_is_text() -> None:
    """Text between backticks becomes an element; markup from outside does not."""
    assert filters.mark_code("run `ackstream stats`, <b>") == "run <code>ackstream stats</code>, &lt;b&gt;"
    assert filters.mark_code("`<img src=x>`") == "<code>&lt;img src=x&gt;</code>"


def test_a_spark_has_gaps() -> None:
    """A line starts again after an unknown value, and nothing is drawn without any."""
    assert filters.draw_spark([None, None]) == ""
    assert filters.draw_spark([0, 2, None, 4]).count("M") == 2
