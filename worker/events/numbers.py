r"""Finds phone numbers in texts, in every spelling in which a payload can have them. No I/O.

A spelling may have a plus or 00 in front, separators between the digits, ``(0)`` after the country code, and escapes of
URLs and of JSON, also one in the other: ``+44 (0)7700 900-001``, ``%2B447700900001``, ``"\u00347700900001"``. A number
never matches a part of a longer one. Digits in base64 are not found.

In a value of its own, groups of digits are one number: ``+44 7700 900001 2`` is not 447700900001. In a longer text,
and from 16 digits on, each series of groups may be one.
"""

import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

SHORTEST = 7
"""A shorter number is a short code. As so few digits also occur in codes and prices, it has to be the whole value of a
field for senders and recipients."""
LONGEST = 15
"""The digits of the longest number: https://www.itu.int/rec/T-REC-E.164"""
LEAST = 3
ESCAPED_TIMES = 3

_SEPARATOR = r"[\s().\-/+]{0,3}"
_RUN = re.compile(rf"\d(?:{_SEPARATOR}\d)*", re.ASCII)
_GROUP = re.compile(r"\d+", re.ASCII)
_SPELLED = re.compile(r"[\s().\-/+\d]+", re.ASCII)
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|%[0-9a-fA-F]{2}")
_EDGES = frozenset("\"'&=,:;<>[]{}?#@|\\")


def parse_number(text: str) -> str | None:
    """Return the digits of a number as an operator writes it; None if it is not one."""
    digits = digits_of(text)
    return digits if digits and LEAST <= len(digits) <= LONGEST else None


def digits_of(text: str) -> str | None:
    """Return the digits of a text that is a number and nothing else, without a leading 00; None for other texts."""
    plain = _plain(text)
    if not _SPELLED.fullmatch(plain):
        return None
    return "".join(_GROUP.findall(plain)).removeprefix("00")


def spelled_pattern(digits: str) -> str:
    """Return the pattern of a number with any separators between its digits."""
    return _SEPARATOR.join(digits)


class NumberFinder:
    """Finds some numbers, each with at least SHORTEST digits."""

    def __init__(self, numbers: frozenset[str]) -> None:
        self._numbers = numbers
        pattern = "|".join(map(spelled_pattern, sorted(numbers)))
        self._likely = re.compile(pattern, re.ASCII) if numbers else None

    def is_in(self, text: str) -> bool:
        """Whether the text has one of the numbers."""
        return self._likely is not None and any(map(self._is_spelled_in, spellings(text)))

    def _is_spelled_in(self, text: str) -> bool:
        if self._likely is None or not self._likely.search(text):  # a hundredth of the texts comes further
            return False
        return any(not self._numbers.isdisjoint(read_run(text, *run.span())) for run in _RUN.finditer(text))


def spellings(text: str) -> Iterator[str]:
    """Yield the text, and if it has escapes the text that they stand for, for up to ESCAPED_TIMES levels.

    The digits of an escape are not part of a number, so the text is yielded without its escapes.
    """
    for _ in range(ESCAPED_TIMES):
        text = _plain(text)
        if not _ESCAPE.search(text):
            break
        yield _ESCAPE.sub("?", text)
        text = _ESCAPE.sub(_read_escape, unquote(text, errors="replace") if "%" in text else text)
    yield text


def read_run(text: str, start: int, end: int) -> Iterator[str]:
    """Yield the numbers that a run of digits and separators may be."""
    groups = _GROUP.findall(text, start, end)
    if sum(map(len, groups)) <= LONGEST + 2 and _is_value(text, start, end):
        yield _international("".join(groups))
        return
    for first in range(len(groups)):
        number = ""
        for group in groups[first:]:
            number += group
            if len(number) > LONGEST + 2:
                break
            yield _international(number)


def _is_value(text: str, start: int, end: int) -> bool:
    """Whether nothing but quotes and signs of JSON, forms and URLs surrounds the run."""
    before, after = text[:start].rstrip(" +("), text[end : end + 3].lstrip(" )")
    return (not before or before[-1] in _EDGES) and (not after or after[0] in _EDGES)


def _international(digits: str) -> str:
    return digits.removeprefix("00")


def _plain(text: str) -> str:
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return text.replace("(0)", "")


def _read_escape(escape: re.Match[str]) -> str:
    return str(chr(int(escape[1], 16))) if escape[1] else escape[0]
