"""The spool's folders, ``DATA/spool/<n>``: each process uses one and locks it as long as it runs.

A folder holds ``lock``; ``owner``, the stream and server of its entries; ``000001.db`` and so on, its files in order of
creation, each with SQLite's ``-wal`` file; ``000001.damaged`` with ``000001.damaged-wal``, a file that was set aside
for an operator to examine.

A process uses the first free folder without entries. An unlocked folder with entries belongs to a dead process; a
process with the same owner drains it.
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
from runtime.errors import CommandError

FOLDERS = 1000
_OWNER = "owner"


@dataclass(frozen=True, slots=True)
class Owner:
    """A stream on a Redis server."""

    stream: str
    redis: str
    """The server's address, without user and password."""
    server: str | None = None
    """The id that the server keeps under the stream's key; None until it has answered."""

    def owns(self, recorded: "Owner | None") -> bool:
        """Whether entries of the ``recorded`` owner belong to this one.

        Both must have the same stream and server id, or the same address if ``recorded`` has no id.
        """
        if recorded is None or recorded.stream != self.stream:
            return False
        return recorded.redis == self.redis if recorded.server is None else recorded.server == self.server


class SpoolFolder:
    """A folder that this process has locked."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def claim(cls, data: Path, owner: Owner) -> Self:
        """Lock the first free folder without entries of another owner; create it if needed. Raises CommandError.

        While the server's id is unknown, an owner without an id at the same address counts as the same owner. A full or
        failing disk keeps no process from starting: the caller records the owner before it adds entries.
        """
        try:
            for number in range(FOLDERS):
                path = data / "spool" / str(number)
                make_folder(path)
                if (folder := cls.lock(path)) is None:
                    continue
                if not folder.has_entries() or (owner.server is None and owner.owns(folder.owner)):
                    with suppress(OSError):
                        folder.write_owner(owner)
                    return folder
                folder.release()
        except OSError as exc:
            raise CommandError(
                f"the spool folder {data / 'spool'} cannot be used ({exc.strerror}): "
                "set ACKSTREAM_DATA to a folder that this user may write to"
            ) from None
        raise CommandError(f"all {FOLDERS} folders in {data / 'spool'} are in use: see `ackstream spool list`")

    @classmethod
    def lock(cls, path: Path) -> Self | None:
        """Lock a folder; return None if another process has it. Raises OSError."""
        lock = try_lock(path / "lock")
        return None if lock is None else cls(path, lock)

    @property
    def is_removed(self) -> bool:
        """Whether the folder or its lock was removed, so that another process may use the path."""
        try:
            return not os.path.samestat(os.fstat(self._lock), (self.path / "lock").stat())
        except OSError:
            return True

    @property
    def owner(self) -> Owner | None:
        """The owner of its entries; None if it cannot be read."""
        return read_owner(self.path)

    def write_owner(self, owner: Owner) -> None:
        """Record the owner of its entries on the disk. Raises OSError."""
        if self.owner != owner:
            write_file(self.path / _OWNER, orjson.dumps(asdict(owner)))

    def has_entries(self) -> bool:
        """Whether the folder holds files, which may have entries."""
        return next(self.path.glob("*.db"), None) is not None

    def lock_others(self) -> Iterator[Self]:
        """Lock and yield each other folder with files that no running process uses. The caller releases it.

        Unreadable folders are skipped.
        """
        for path in folders_in(self.path.parent.parent):
            with suppress(OSError):
                if path != self.path and next(path.glob("*.db"), None) and (folder := type(self).lock(path)):
                    yield folder

    def files(self) -> list[Path]:
        """Return its files, oldest first. Unfinished drafts are deleted."""
        with suppress(OSError):
            for draft in self.path.glob("*.new*"):
                draft.unlink()
            for log in self.path.glob("*.db-wal"):  # its file was set aside, but the log could not be renamed
                if log.with_suffix(".damaged").exists() and not log.with_suffix(".db").exists():
                    log.rename(log.with_suffix(".damaged-wal"))
        return sorted(self.path.glob("*.db"))

    def next_file(self) -> Path:
        """Return the next free file name, after all files including those set aside."""
        names = (path.name.partition(".")[0] for path in self.path.iterdir())
        return self.path / f"{1 + max((int(name) for name in names if name.isdecimal()), default=0):06}.db"

    def free_bytes(self) -> tuple[int, int]:
        """Return the bytes of the volume that are free for this user, and the total."""
        with translate_errors():
            volume = os.statvfs(self.path)
        return volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize

    def release(self) -> None:
        """Unlock the folder."""
        os.close(self._lock)


def folders_in(data: Path) -> list[Path]:
    """Return the spool's folders in a data folder, by number."""
    folders = [path for path in (data / "spool").glob("[0-9]*") if path.name.isdecimal()]
    return sorted(folders, key=lambda path: int(path.name))


def find_server(data: Path, owner: Owner) -> str | None:
    """Return the id that is recorded for the stream and address of this owner; None without one.

    So a server that came back without its data keeps its id for the spool.
    """
    owners = (found for path in folders_in(data) if (found := read_owner(path)))
    ids = (found.server for found in owners if (found.stream, found.redis) == (owner.stream, owner.redis))
    return next(filter(None, ids), None)


def read_owner(folder: Path) -> Owner | None:
    """Return the owner of a folder's entries; None if it is missing or invalid."""
    try:
        return Owner(**orjson.loads((folder / _OWNER).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
