"""Files and folders that must survive a power cut, and locks on files.

On Linux ``fsync`` is enough. On macOS ``fsync`` leaves data in the disk's own cache; ``F_FULLFSYNC`` empties it.
"""

import fcntl
import os
from pathlib import Path

FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


def sync_file(descriptor: int) -> None:
    """Return when the file or folder of this descriptor is on the disk. Raises OSError."""
    if FULL_SYNC is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, FULL_SYNC)


def sync_folder(folder: Path) -> None:
    """Return when the names in this folder are on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make the folder, mode 0700, and its missing parents, and sync each new name to the disk. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write the file atomically, mode 0600, and sync it to the disk. Raises OSError."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        sync_file(descriptor)
    draft.replace(path)
    sync_folder(path.parent)


def try_lock(path: Path) -> int | None:
    """Lock a file, which is created if needed; return its descriptor, or None while another process holds the lock.

    Closing the descriptor unlocks the file. The system also unlocks it when the process ends, even by a crash. The lock
    works between the processes of one machine; on a network file system it may have no effect.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
