"""Writes the records of a selection as lines of JSON."""

import sys
from collections.abc import Mapping
from typing import Any

import orjson

from console.privacy.eraser import Eraser
from console.privacy.selection import Record, Selection

_SECRET = frozenset((b"authorization",))
"""The token of a quarantined webhook says nothing about a person."""


async def export(eraser: Eraser, selection: Selection) -> tuple[int, list[str]]:
    """Write a line for each record; return their number, and the reasons why some could not be read."""
    lines, unreachable = 0, list[str]()
    async for place, record in eraser.find(selection, unreachable):
        sys.stdout.write(orjson.dumps(describe(place, record)).decode() + "\n")
        lines += 1
    return lines, unreachable


def describe(place: str, record: Record) -> Mapping[str, Any]:
    """Return a record for JSON. Bytes that are not UTF-8 are escaped."""
    fields = {
        name.decode(errors="backslashreplace"): value.decode(errors="backslashreplace")
        for name, value in record.fields.items()
        if name not in _SECRET
    }
    return {"place": place, "entry": record.origin or None, "message_uuid": record.message_uuid, "fields": fields}
