"""Numbers are found in every spelling, and never as a part of a longer one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.events.numbers import NumberFinder, parse_number

NUMBER = "447700900001"
FINDER = NumberFinder(frozenset((NUMBER,)))


@pytest.mark.parametrize(
    "text",
    [
        "+44 (0)7700 900-001",
        "00447700900001",
        '{"to":"447700900001"}',
        '{"to":447700900001,"from":1}',
        "to=%2B44+7700+900001&from=x",
        "msisdn=%34%347700900001",
        '{"to":"4\\u00347700900001"}',
        '{"url":"https://x.example/?n=%2B447700900001"}',
        '{"inner":"{\\"to\\":\\"447700900001\\"}"}',
        '{"inner":"to%3D%252B447700900001"}',
        "whatsapp:447700900001@s.whatsapp.net",
        "at 2026-11-30 447700900001 was called 2 times",
        '"447700900001 447700900002"',
        "\uff14\uff147700900001",
        "\u0664\u0664\u0667\u0667\u0660\u0660\u0669\u0660\u0660\u0660\u0660\u0661",
        "\u202a+44\xa07700\u2011900\u2013001\u202c",
        "+44\u200b7700\xad900001",
        '{"to":"+44\\u20117700\\u2011900001"}',
        '{"to":"+44\\/7700\\t900001"}',
        '{"inner":"{\\"to\\":\\"+44\\\\/7700\\\\/900001\\"}"}',
        "+44 - (0) 7700 900001",
        "+44 ( 0 ) 7700 900001",
        '{"to":447700900001.0}',
        "447700900001.00",
        '{"client_ref":"2024/447700900001"}',
        "to=%2B44%A07700%A0900001",
        b"+44\xa07700\xa0900001".decode(errors="replace"),
        "+44 7700 900001".encode("utf-16-le").decode(),
        "x447700900001y",
    ],
)
def test_a_spelling_is_found(text: str) -> None:
    """Signs, blanks, escapes, other numbers and texts around a number do not hide it."""
    assert FINDER.is_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "4477009000010",
        "1447700900001",
        "44770090000",
        '"+44 7700 9000 01 2"',
        '"1 447700900001"',
        '"447700900001-1"',
        '"447700900001.01"',
        "1447700900001.0",
        "\u0661447700900001",
        '{"a":"44770090000","b":"1"}',
        '{"to":"\\u00347700900001"}',
        "",
    ],
)
def test_a_part_of_another_number_is_not_found(text: str) -> None:
    """A number with more or other digits, in groups or not, is another number."""
    assert not FINDER.is_in(text)


def test_the_digits_of_an_escape_are_not_part_of_a_number() -> None:
    """An escape of a 4 has the digits 0034, which are not in the text that it stands for."""
    assert not NumberFinder(frozenset(("347700900001",))).is_in('{"to":"\\u00347700900001"}')


@given(st.integers(10**6, 10**13), st.integers(10**6, 10**13), st.sampled_from(["", " ", "-", ".", "%20"]))
def test_only_the_number_itself_is_found(number: int, other: int, separator: str) -> None:
    """A number in groups of three is found if it is the one, and otherwise not."""
    digits = str(other)
    groups = separator.join(digits[start : start + 3] for start in range(0, len(digits), 3))

    assert NumberFinder(frozenset((str(number),))).is_in(f'{{"to":"+{groups}"}}') == (number == other)
    assert NumberFinder(frozenset((digits,))).is_in(f'{{"to":"+{groups}"}}')


def test_what_an_operator_writes_is_read() -> None:
    """A number may have signs and blanks; a text with letters, or with too few or too many digits, is not one."""
    texts = ("+44 7700-900001", "0044 (0)7700 900001", "4479", "12", "1" * 16, "44x7700900001", "")

    assert [parse_number(text) for text in texts] == [NUMBER, NUMBER, "4479", None, None, None, None]
