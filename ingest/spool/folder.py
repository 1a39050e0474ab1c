"""Where the spool's files lie: ``DATA/spool/<n>``, a folder for each process, locked for as long as it lives.

In a folder: ``lock``; ``owner``, which says what stream and server its entries belong to; ``000001.db`` and so on, the
files in the order in which they were begun, each with SQLite's ``-wal`` beside it; ``000001.damaged`` with
``000001.damaged-wal``, a file that was set aside, for a person to look at.

A process starts in the first free folder without entries. Folders with entries that nobody has locked are those of
dead processes: a process whose owner they match drains them.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import orjson

from ingest.spool.errors import translate_errors
from runtime.disk import make_folder, try_lock, write_file
from runtime.errors import Refusal

FOLDERS = 1000
_OWNER = "owner"


@dataclass(frozen=True, slots=True)
class Owner:
    """A stream on a server."""

    stream: str
    redis: str
    """The server's address, without user and password."""
    server: str | None = None
    """The id that the server keeps under the stream's key; None until it has answered."""

    def owns(self, other: "Owner | None") -> bool:
        """Whether entries of ``other`` belong here: same stream, and same id; by address if ``other`` has no id."""
        if other is None or other.stream != self.stream:
            return False
        return other.redis == self.redis if other.server is None else other.server == self.server


class SpoolFolder:
    """A folder that this process has locked."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def claim(cls, data: Path, owner: Owner) -> Self:
        """Lock the first free folder without entries of others, made if need be. Raises Refusal if there can be none.

        While the server's id is not known, entries of an owner without one, at the same address, are no others'.
        """
        try:
            for number in range(FOLDERS):
                path = data / "spool" / str(number)
                make_folder(path)
                if (folder := cls.lock(path)) is None:
                    continue
                if not folder.has_entries() or (owner.server is None and owner.owns(folder.owner)):
                    folder.write_owner(owner)
                    return folder
                folder.release()
        except OSError as exc:
            raise Refusal(
                f"the spool cannot be kept in {data / 'spool'} ({exc.strerror}): "
                "set ACKSTREAM_DATA to a folder that this user may write to"
            ) from None
        raise Refusal(f"all {FOLDERS} folders in {data / 'spool'} are in use: see `ackstream spool list`")

    @classmethod
    def lock(cls, path: Path) -> Self | None:
        """Lock a folder; None if a living process has it. Raises OSError."""
        lock = try_lock(path / "lock")
        return None if lock is None else cls(path, lock)

    @property
    def owner(self) -> Owner | None:
        """Whose entries it holds; None if that cannot be read."""
        return read_owner(self.path)

    def write_owner(self, owner: Owner) -> None:
        """Note whose entries it holds, on the disk. Raises OSError."""
        if self.owner != owner:
            write_file(self.path / _OWNER, orjson.dumps(asdict(owner)))

    def has_entries(self) -> bool:
        """Whether it holds files, which may have entries."""
        return next(self.path.glob("*.db"), None) is not None

    def others(self) -> Iterator[Self]:
        """Lock and yield each other folder with files that no living process has. The caller releases it.

        One that cannot be looked into is left out.
        """
        for path in folders_in(self.path.parent.parent):
            with suppress(OSError):
                if path != self.path and next(path.glob("*.db"), None) and (folder := type(self).lock(path)):
                    yield folder

    def files(self) -> list[Path]:
        """Return its files, oldest first. Drafts that were never finished are deleted."""
        with suppress(OSError):
            for draft in self.path.glob("*.new*"):
                draft.unlink()
            for log in self.path.glob("*.db-wal"):  # of a file that was renamed when its log could not be
                if log.with_suffix(".damaged").exists() and not log.with_suffix(".db").exists():
                    log.rename(log.with_suffix(".damaged-wal"))
        return sorted(self.path.glob("*.db"))

    def next_file(self) -> Path:
        """Return a name after those of all files, the ones that were set aside too."""
        names = (path.name.partition(".")[0] for path in self.path.iterdir())
        return self.path / f"{1 + max((int(name) for name in names if name.isdecimal()), default=0):06}.db"

    def free_bytes(self) -> tuple[int, int]:
        """Return how many bytes of the volume are free for this user, and how many it has in all."""
        with translate_errors():
            found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def release(self) -> None:
        """Unlock it."""
        os.close(self._lock)


def folders_in(data: Path) -> list[Path]:
    """Return the spool's folders in a data folder, in the order of their numbers."""
    found = [path for path in (data / "spool").glob("[0-9]*") if path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name))


def read_owner(folder: Path) -> Owner | None:
    """Return whose entries a folder holds; None if it does not say."""
    try:
        return Owner(**orjson.loads((folder / _OWNER).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
