"""Writes a file of the archive and its line in the index (worker.retention.archive_reader describes the layout)."""

import errno
import math
import os
import secrets
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from io import RawIOBase
from pathlib import Path
from typing import IO, Any, Self

import hiredis

from runtime.disk import sync_file, sync_folder
from runtime.errors import CommandError
from stream.entry import fields_from_flat, read_received_ms
from stream.keys import Shard
from worker.retention.archive_reader import INDEX, IndexLine
from worker.retention.pages import RawEntry

FILE_BYTES = 32 * 1024 * 1024  # before compression
REST_SECONDS = 60.0  # between two files, after a small one
ABANDONED_SECONDS = 3600.0

_LEVEL = 1
_GZIP = 31  # the value of wbits with which zlib writes gzip
DRAFT = ".part"


class ArchiveFailed(Exception):  # noqa: N818 - the trimmer then trims nothing
    """The entries were not archived; the text says why."""


class Archive:
    """A folder of archived entries. Several processes may write to it at the same time."""

    def __init__(self, folder: Path, *, file_bytes: int = FILE_BYTES, rest_seconds: float = REST_SECONDS) -> None:
        self.folder = folder
        self.file_bytes = file_bytes
        self._rest_seconds = rest_seconds
        self._rests_until: dict[Shard, float] = {}

    def prepare(self) -> None:
        """Create the folder. Raises CommandError if this process cannot write to it."""
        try:
            missing = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in missing:
                sync_folder(folder.parent)
        except OSError as exc:
            raise CommandError(
                f"the folder of the archive {self.folder} cannot be created ({exc.strerror}): correct ACKSTREAM_ARCHIVE"
            ) from None
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise CommandError(
                f"the folder of the archive {self.folder} is not writable: give this user the right to write"
            )

    def is_resting(self, shard: Shard) -> bool:
        """Whether the shard's last file was small, so that the next one waits for up to a minute and becomes larger."""
        return time.monotonic() < self._rests_until.get(shard, -math.inf)

    def finish(self, draft: "ArchiveDraft") -> str:
        """Write the draft durably, and return the name of its file. Raises ArchiveFailed."""
        name = draft.finish()
        if draft.bytes < self.file_bytes // 2:
            self._rests_until[draft.shard] = time.monotonic() + self._rest_seconds
        return name

    def draft(self, shard: Shard) -> "ArchiveDraft":
        """Start a file, and remove files that a crash left unfinished."""
        with suppress(OSError):
            for path in self.folder.glob(f"*{DRAFT}"):
                if path.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                    path.unlink()
        return ArchiveDraft(self.folder, shard)


class ArchiveDraft:
    """An unfinished file. Leaving its block before ``finish`` removes it."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        self._folder = folder
        self.shard = shard
        self._path = folder / f"{shard.number}-{secrets.token_hex(8)}{DRAFT}"
        self._compressor = make_compressor()
        self._file: IO[bytes] | None = None
        self._first = self._last = b""
        self._received: list[int] = []
        self.entries = 0
        self.bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # the file is removed below
                self._file.close()
            with suppress(OSError):  # a later draft removes it
                self._path.unlink(missing_ok=True)

    def add(self, entries: Sequence[RawEntry]) -> None:
        """Append at least one entry; all must follow those of the calls before. Raises ArchiveFailed."""
        stream = self.shard.stream
        commands = b"".join(encode_entry(stream, *entry) for entry in entries)
        try:
            if self._file is None:
                self._file = open(self._path, "xb", opener=open_private)  # noqa: SIM115 - closed at the end of the block
            self._file.write(self._compressor.compress(commands))
        except OSError as exc:
            raise ArchiveFailed(exc.strerror or type(exc).__name__) from exc
        received = self._received + [
            time_ms for _, flat in entries if (time_ms := read_received_ms(fields_from_flat(flat))) is not None
        ]
        self._received = [min(received), max(received)] if received else []
        self._first = self._first or entries[0][0]
        self._last = entries[-1][0]
        self.entries += len(entries)
        self.bytes += len(commands)

    def finish(self) -> str:
        """Fsync the file and its line in the index, and return its name. Raises ArchiveFailed."""
        assert self._file is not None  # noqa: S101 - the caller has added entries
        name = f"{self.shard.number}_{self._first.decode()}_{self._last.decode()}_{secrets.token_hex(4)}.gz"
        try:
            with open(self._folder / INDEX, "ab", buffering=0, opener=open_private) as index:
                self._file.write(self._compressor.flush())
                self._file.flush()
                sync_file(self._file.fileno())
                self._file.close()
                self._path.rename(self._folder / name)
                try:
                    sync_folder(self._folder)
                    append_line(index, self._line(name))
                except OSError:
                    (self._folder / name).unlink()  # without a line in the index, no code would ever remove it
                    raise
                sync_file(index.fileno())
        except OSError as exc:
            raise ArchiveFailed(exc.strerror or type(exc).__name__) from exc
        return name

    def _line(self, name: str) -> IndexLine:
        received = (self._received[0], self._received[1]) if self._received else None
        first, last = self._first.decode(), self._last.decode()
        return IndexLine(name, self.shard.stream, self.shard.number, first, last, self.entries, self.bytes, received)


def append_line(index: RawIOBase, line: IndexLine) -> None:
    """Append a line to the index. Raises OSError if the line is not written completely."""
    text = b"\n" + line.to_json() + b"\n"  # the first line end completes a line that a crash cut off
    written = index.write(text) or 0
    if written < len(text) - 1:  # the last line end may be missing, because the next line starts with one
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def open_private(path: str, flags: int) -> int:
    """Open a file that only this user may read."""
    return os.open(path, flags, 0o600)


def make_compressor() -> Any:
    """Return the compressor of a file."""
    return zlib.compressobj(_LEVEL, wbits=_GZIP)


def encode_entry(stream: str, entry_id: bytes, flat: Sequence[bytes]) -> bytes:
    """Return the command that appends this entry."""
    command: Any = ("XADD", stream, entry_id, *flat)
    encoded: bytes = hiredis.pack_command(command)
    return encoded
