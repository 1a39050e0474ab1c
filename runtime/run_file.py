"""Where a running ``ackstream up`` serves: it writes this file into its data folder, the other commands read it there.

The file counts only while its writer holds the lock beside it, so what a killed run left behind is ignored.
"""

import fcntl
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from runtime.errors import Refusal
from runtime.file_lock import locked

_FILE = "addresses.json"
_LOCK = "up.lock"

LOOK_SECONDS = 0.2  # another command that looks for addresses holds the lock for a moment


class FolderInUse(Refusal):
    """Another ``ackstream up`` runs on this data folder."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of one running ``ackstream up``. ``redis_url`` holds a password: the file is 0600."""

    redis_url: str
    database_url: str
    ingest_url: str
    ingest_admin_url: str
    worker_admin_url: str

    def write(self, data: Path) -> None:
        """Put the file in place, whole or not at all. The caller holds ``lock_folder``."""
        draft = data / f"{_FILE}.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2))
        draft.replace(data / _FILE)


def lock_folder(data: Path) -> int:
    """Take the folder for this process, until it ends. Raises FolderInUse."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    deadline = time.monotonic() + LOOK_SECONDS
    while (descriptor := locked(data / _LOCK)) is None:
        if time.monotonic() > deadline:
            raise FolderInUse(f"another `ackstream up` runs on {data}: stop it, or choose another folder (--data)")
        time.sleep(0.01)
    (data / _FILE).unlink(missing_ok=True)
    return descriptor


def running(data: Path) -> Addresses | None:
    """Return the addresses of the ``ackstream up`` that runs on this folder, if one does."""
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
        return Addresses(**orjson.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):  # not written yet, or of another version
        return None
