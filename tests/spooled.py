"""Entries for the spool's files, and how to look at what is in one."""

import shutil
import tempfile
from pathlib import Path

from ingest.spool_file import SpoolFile
from ingest.spool_row import Packed, Slice, pack
from tests.events import RECEIVED_MS, entry

MOST_BYTES = 2**30


def packed(*numbers: int, size: int = 10) -> list[Packed]:
    """Entries that can be told apart by their payload."""
    return [pack(RECEIVED_MS + n, fields(n, size)) for n in numbers]


def fields(number: int, size: int = 10) -> list[bytes]:
    payload = b"%d:" % number + b"x" * size
    return [part for pair in entry(payload, RECEIVED_MS + number).to_fields().items() for part in pair]


def numbers(found: Slice | None) -> list[int]:
    """Which entries these are; each must be whole."""
    taken = [] if found is None else [list(one) for one in found.entries]
    which = [int(one[3].partition(b":")[0]) for one in taken]
    assert taken == [fields(n, len(one[3].partition(b":")[2])) for n, one in zip(which, taken, strict=True)]
    return which


def drained(file: SpoolFile, most_entries: int = 100) -> list[int]:
    """All that is in it, slice by slice."""
    found = []
    while (part := file.read(most_entries, MOST_BYTES)) is not None:
        found += numbers(part)
        file.confirm(part)
    return found


def crashed(path: Path) -> Path:
    """The file as a killed process leaves it: whatever the system was told to write."""
    return Path(shutil.copytree(path.parent, Path(tempfile.mkdtemp(dir=path.parent.parent)) / "left")) / path.name


def looked_at(path: Path) -> SpoolFile:
    """What was left there, as the next process finds it."""
    file = SpoolFile.left(path)
    file.look()
    return file
