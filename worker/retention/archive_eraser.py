"""Erases entries of the archive, and whole files that are too old.

A file keeps its name and its order. The new one is fsynced and renamed over the old one; the line of the
index comes first (worker.retention.archive_reader). A crash in between leaves the old file, which is as valid. A
lock in the folder lets one process at a time do this; the trimmer only adds files and needs no lock.
"""

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.disk import sync_file, sync_folder, try_lock
from stream.entry import EntryId
from worker.retention.archive_reader import (
    INDEX,
    ArchiveDamaged,
    ArchivedEntry,
    IndexLine,
    read_file,
    read_index,
)
from worker.retention.archive_writer import (
    ABANDONED_SECONDS,
    DRAFT,
    append_line,
    encode_entry,
    make_compressor,
    open_private,
)

LOCK = "lock"

_NAME = re.compile(r"\d+_\d+-\d+_\d+-\d+_\w+\.gz")


class ArchiveLocked(Exception):  # noqa: N818 - the caller tries again later
    """Another process erases entries of the archive."""


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file of the archive; ``line`` is None for a file that a crash left without one."""

    path: Path
    shard: int
    line: IndexLine | None

    @property
    def last_ms(self) -> int:
        """The time of the id of its last entry."""
        return EntryId.from_redis(self.shard, self.path.name.split("_")[2]).ms


@contextmanager
def lock_archive(folder: Path) -> Iterator[None]:
    """Let no other process erase entries. Raises ArchiveLocked or OSError."""
    lock = try_lock(folder / LOCK)
    if lock is None:
        raise ArchiveLocked
    try:
        yield
    finally:
        os.close(lock)


def list_files(folder: Path, stream: str) -> list[ArchiveFile]:
    """Return the files with entries of a stream, oldest first. Raises ArchiveDamaged."""
    lines = {line.file: line for line in read_index(folder)}
    files = [ArchiveFile(folder / line.file, line.shard, line) for line in lines.values() if line.stream == stream]
    for path in folder.glob("*.gz"):
        shard = path.name.partition("_")[0]
        if path.name not in lines and _NAME.fullmatch(path.name) and _has_stream(path, int(shard), stream):
            files.append(ArchiveFile(path, int(shard), None))
    return sorted(files, key=lambda file: (file.line is None, file.line.span() if file.line else (), file.path))


def list_drafts(folder: Path, shard: int) -> list[Path]:
    """Return the files that a trimmer is writing. Those that a crash left unfinished are removed if they are old."""
    drafts = []
    for path in folder.glob(f"{shard}-*{DRAFT}"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                path.unlink()
            else:
                drafts.append(path)
    return drafts


def erase_entries(file: ArchiveFile, belongs: Callable[[ArchivedEntry], bool]) -> int:
    """Write the file again without the entries for which ``belongs`` is true; return their number.

    A file without other entries is deleted. Call it with the folder locked. Raises ArchiveDamaged or OSError.
    """
    draft = file.path.with_name(f"{file.shard}-{secrets.token_hex(8)}{DRAFT}")
    try:
        erased, remaining, size = _write_others(file, draft, belongs)
        if not erased:
            return 0
        if file.line is not None:
            _append(file.path.parent, replace(file.line, entries=remaining, size=size))
        if remaining:
            draft.rename(file.path)
        else:
            file.path.unlink()
        sync_folder(file.path.parent)
    finally:
        draft.unlink(missing_ok=True)
    return erased


def delete_old_files(folder: Path, stream: str, before_ms: int) -> int:
    """Delete the files whose entries are all older; return the number of entries. Raises the errors of this module."""
    deleted = 0
    with lock_archive(folder):
        for file in list_files(folder, stream):
            if file.last_ms >= before_ms:
                continue
            if file.line is not None:
                _append(folder, replace(file.line, entries=0, size=0))
                deleted += file.line.entries
            file.path.unlink(missing_ok=True)
            sync_folder(folder)
    return deleted


def _write_others(file: ArchiveFile, draft: Path, belongs: Callable[[ArchivedEntry], bool]) -> tuple[int, int, int]:
    """Write the other entries to a draft. Return how many belong, how many remain, and the bytes of these."""
    erased = remaining = size = 0
    compressor = make_compressor()
    with open(draft, "xb", opener=open_private) as target:
        for stream, entry in read_file(file.path, file.shard):
            if belongs(entry):
                erased += 1
                continue
            command = encode_entry(stream, entry.id.redis.encode(), entry.flat)
            target.write(compressor.compress(command))
            remaining += 1
            size += len(command)
        target.write(compressor.flush())
        target.flush()
        sync_file(target.fileno())
    return erased, remaining, size


def _append(folder: Path, line: IndexLine) -> None:
    with open(folder / INDEX, "ab", buffering=0, opener=open_private) as index:
        append_line(index, line)
        sync_file(index.fileno())


def _has_stream(path: Path, shard: int, stream: str) -> bool:
    try:
        return any(name == stream for name, _ in read_file(path, shard))
    except ArchiveDamaged:
        return True  # it may be; the caller reports the damage
