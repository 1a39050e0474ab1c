r"""Finds phone numbers in texts, in every spelling in which a payload can have them. No I/O.

A spelling may have a plus or 00 in front, separators between the digits, ``(0)`` after the country code, and escapes of
URLs and of JSON, also one in the other: ``+44 (0)7700 900-001``, ``%2B447700900001``, ``"\u00347700900001"``. Blanks,
dashes and digits may be those of any script, and bytes that are not UTF-8 count as blanks. A number never matches a
part of a longer one. Digits in base64 are not found.

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
UNDECODED = "\ufffd"
"""The sign in the place of bytes that are not UTF-8."""

_SEPARATOR = r"[\s().\-/+]{0,3}"
_TRUNK_ZERO = re.compile(r"[\s.-]{0,3}\(\s?0\s?\)[\s.-]{0,3}", re.ASCII)
_WHOLE_FLOAT = re.compile(rf"(?<![\d.])(\d{{{SHORTEST},{LONGEST}}})\.0+(?![\d.])", re.ASCII)
_RUN = re.compile(rf"\d(?:{_SEPARATOR}\d)*", re.ASCII)
_GROUP = re.compile(r"\d+", re.ASCII)
_SPELLED = re.compile(r"[\s().\-/+\d]+", re.ASCII)
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\([/bfnrt])|%[0-9a-fA-F]{2}")
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
    """Yield the text, and if it has escapes the text that they encode, for up to ESCAPED_TIMES levels.

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
    whole = _international("".join(groups))
    if len(whole) <= LONGEST and _is_value(text, start, end):
        yield whole
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
    """Return the text with the signs of ASCII for those of other scripts, and without a zero that nobody dials."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = text.translate({ord(sign): _in_ascii(sign) for sign in set(text) if not sign.isascii()})
    text = text.replace("\0", "")  # as UTF-16 has them
    if "(" in text:
        text = _TRUNK_ZERO.sub(" ", text)
    return _WHOLE_FLOAT.sub(r"\1", text) if ".0" in text else text


def _in_ascii(sign: str) -> str:
    """Return the digit or the separator of ASCII for a sign of another script; other signs as they are."""
    kind = unicodedata.category(sign)
    if kind == "Nd":
        return str(unicodedata.decimal(sign))
    return {"Pd": "-", "Zs": " ", "Cf": ""}.get(kind, " " if sign == UNDECODED else sign)


def _read_escape(escape: re.Match[str]) -> str:
    code, sign = escape.groups()
    if code:
        return str(chr(int(code, 16)))
    return {"/": "/", None: escape[0]}.get(sign, " ")
