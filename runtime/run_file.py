"""The addresses of a running ``ackstream up``, in a file in its data folder that the other commands read.

The file is valid only while its writer holds the lock next to it, so the file of a killed run is ignored.
"""

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.disk import make_folder, try_lock, write_file
from runtime.errors import CommandError

_FILE = "addresses.json"
_LOCK = "up.lock"

LOCK_SECONDS = 0.2  # another command that reads the addresses holds the lock for a moment


class FolderInUse(CommandError):  # noqa: N818 - named for what is wrong
    """Another ``ackstream up`` runs on this data folder."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of one running ``ackstream up``. ``redis_url`` holds a password: the file is 0600."""

    redis_url: str
    database_url: str
    ingest_url: str
    ingest_admin_url: str
    worker_admin_url: str
    console_url: str

    def write(self, data: Path) -> None:
        """Write the file atomically. The caller holds ``lock_folder``.

        The file is ASCII, because the name of a folder may not be valid UTF-8.
        """
        write_file(data / _FILE, json.dumps(asdict(self), indent=2).encode())


def lock_folder(data: Path) -> int:
    """Lock the folder for this process until it ends. Raises FolderInUse."""
    make_folder(data)
    deadline = time.monotonic() + LOCK_SECONDS
    while (descriptor := try_lock(data / _LOCK)) is None:
        if time.monotonic() > deadline:
            raise FolderInUse(f"another `ackstream up` runs on {data}: stop it, or choose another folder (--data)")
        time.sleep(0.01)
    remove(data)
    return descriptor


def remove(data: Path) -> None:
    """Remove the file, which holds a password. The caller holds ``lock_folder``."""
    (data / _FILE).unlink(missing_ok=True)


def find_running(data: Path) -> Addresses | None:
    """Return the addresses of the ``ackstream up`` that runs on this folder, or None if none runs."""
    try:
        descriptor = os.open(data / _LOCK, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(data / _FILE)
    finally:
        os.close(descriptor)
    return None


def _read(file: Path) -> Addresses | None:
    try:
        return Addresses(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):  # not written yet, or written by another version
        return None
