"""The folder of a spool, as a process opens, drains and leaves it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingest.spool.file_set import SpoolFiles
from ingest.spool.folder import Owner
from tests.support.samples.spooled import numbers, pack_entries

ENOUGH_BYTES = 2**30
OWNER = Owner("test:{0}", "redis://127.0.0.1:6379")


class HourlyClock:
    """A clock that advances by an hour with each call, so that a test never waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 3600
        return self.now


def open_files(data: Path, limit_bytes: int = ENOUGH_BYTES, owner: Owner = OWNER) -> SpoolFiles:
    """Do the first step of a process: lock a folder and open the files in it."""
    files = SpoolFiles(data, owner, limit_bytes, HourlyClock())
    files.open()
    return files


@contextmanager
def run_files(data: Path, limit_bytes: int = ENOUGH_BYTES) -> Iterator[SpoolFiles]:
    """Run a process from its start to its end."""
    files = open_files(data, limit_bytes)
    yield files
    files.close()


def drain_files(files: SpoolFiles, most_entries: int = 100) -> list[int]:
    """Read and confirm all entries; return their numbers."""
    drained = []
    while (part := files.read(most_entries)) is not None:
        drained += numbers(part.slice)
        files.confirm(part)
    return drained


def spool_and_end(data: Path, owner: Owner, server: str | None, *numbers: int) -> None:
    """Spool entries for this owner, then end as a process does."""
    files = open_files(data, owner=owner)
    if server is not None:
        files.bind(server)
    files.put(pack_entries(*numbers))
    files.close()
