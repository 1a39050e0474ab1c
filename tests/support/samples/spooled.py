"""Entries for the spool's files, and how to look at what is in one."""

import shutil
import tempfile
from pathlib import Path

import hiredis

from ingest.encoding import Packed, pack
from ingest.spool.file import SpoolFile
from ingest.spool.record import Slice
from tests.support.samples.events import RECEIVED_MS, entry

MOST_BYTES = 2**30


def pack_entries(*numbers: int, size: int = 10) -> list[Packed]:
    """Entries with distinct payloads."""
    return [pack(entry(b"%d:" % n + b"x" * size, RECEIVED_MS + n)) for n in numbers]


def payload(array: bytes) -> bytes:
    """Return the payload that Redis would read."""
    reader = hiredis.Reader()
    reader.feed(array)
    parts = reader.gets()
    value: bytes = parts[parts.index(b"payload") + 1]
    return value


def numbers(part: Slice | None) -> list[int]:
    """Which entries these are; each must be whole."""
    entries = [] if part is None else list(part.entries)
    payloads = [payload(entry).partition(b":") for entry in entries]
    assert entries == [pack_entries(int(n), size=len(xs))[0][1] for n, _, xs in payloads]
    return [int(n) for n, _, _ in payloads]


def drain(file: SpoolFile, most_entries: int = 100) -> list[int]:
    """All that is in it, slice by slice."""
    payloads = []
    while (part := file.read(most_entries, MOST_BYTES)) is not None:
        payloads += numbers(part)
        file.confirm(part)
    return payloads


def copy_as_killed(path: Path) -> Path:
    """Copy the file as a killed process leaves it: all completed writes."""
    return Path(shutil.copytree(path.parent, Path(tempfile.mkdtemp(dir=path.parent.parent)) / "left")) / path.name


def recover(path: Path) -> SpoolFile:
    """Open the file as the next process does."""
    file = SpoolFile.recover(path)
    file.inspect()
    return file
