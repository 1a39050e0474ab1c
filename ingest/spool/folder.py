"""Where the spool's files lie: ``DATA/spool/<n>``, a folder for each process, locked for as long as it lives.

A process takes the first folder that nobody holds, with what an earlier one has left in it. Folders of others that are
not locked are those of the dead: whoever finds data in one may lock it and drain it.

In a folder: ``lock``; ``000001.db`` and so on, the files in the order in which they were begun, each with SQLite's
``-wal`` beside it; ``000001.damaged`` with ``000001.damaged-wal``, a file that was set aside, for a person to look at.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from ingest.spool.errors import judged
from runtime.errors import Refusal
from runtime.file_lock import locked

FOLDERS = 1000


class SpoolFolder:
    """A folder that this process has locked."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def claim(cls, data: Path) -> Self:
        """Lock the first folder that is free, and make it if need be. Raises Refusal if there can be none."""
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(data / "spool")
            for number in range(FOLDERS):
                path = data / "spool" / str(number)
                _make(path)
                if (lock := locked(path / "lock")) is not None:
                    return cls(path, lock)
        except OSError as exc:
            raise Refusal(
                f"the spool cannot be kept in {data / 'spool'} ({exc.strerror}): "
                "set ACKSTREAM_DATA to a folder that this user may write to"
            ) from None
        raise Refusal(
            f"{FOLDERS} processes keep their spools in {data / 'spool'}: set ACKSTREAM_DATA to another folder"
        )

    def orphans(self, without: Collection[Path] = ()) -> Iterator[Self]:
        """Lock and yield each other folder that nobody holds and that has other files than these in it.

        Who takes it releases it. One that cannot be looked into is left to whom it belongs.
        """
        for path in sorted(self.path.parent.glob("[0-9]*")):
            with suppress(OSError):
                if path == self.path or not set(path.glob("*.db")) - set(without):
                    continue
                if (lock := locked(path / "lock")) is not None:
                    yield type(self)(path, lock)

    def files(self) -> list[Path]:
        """Return its files, oldest first. Drafts that were never finished are deleted."""
        for draft in self.path.glob("*.new*"):
            with suppress(OSError):
                draft.unlink()
        return sorted(self.path.glob("*.db"))

    def next_file(self) -> Path:
        """Return a name after those of all files, the ones that were set aside too."""
        names = (path.name.partition(".")[0] for path in self.path.iterdir())
        return self.path / f"{1 + max((int(name) for name in names if name.isdecimal()), default=0):06}.db"

    def free_bytes(self) -> tuple[int, int]:
        """Return how many bytes of the volume are free for this user, and how many it has in all."""
        with judged():
            found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def release(self) -> None:
        """Unlock it."""
        os.close(self._lock)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, and return its new name. It must be closed."""
    aside = path.with_suffix(".damaged")
    with judged():
        with suppress(FileNotFoundError):
            log_of(path).rename(log_of(aside))
        path.rename(aside)
    return aside


def log_of(path: Path) -> Path:
    """Return where SQLite keeps the file's write-ahead log."""
    return path.with_name(f"{path.name}-wal")


def fsync_folder(folder: Path) -> None:
    """Return when the names of the files in it are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, exist_ok=True)
        fsync_folder(folder.parent)
