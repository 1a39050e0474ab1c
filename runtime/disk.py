"""Files and folders that must survive a power cut, and locks on files.

On Linux ``fsync`` is enough. On macOS it does not empty the disk's own cache; ``F_FULLFSYNC`` does.
"""

import fcntl
import os
from pathlib import Path

FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


def sync_file(descriptor: int) -> None:
    """Return when the file or folder that is open here is on the disk. Raises OSError."""
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
    """Make the folder, mode 0700, and the parents it lacks; each new name is on the disk. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def write_file(path: Path, content: bytes) -> None:
    """Put the file in place, mode 0600, whole or not at all; it is on the disk then. Raises OSError."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        sync_file(descriptor)
    draft.replace(path)
    sync_folder(path.parent)


def try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock until it is closed, or None while another has it. Makes the file.

    The system takes the lock back when its holder ends, however it ends. It holds among the processes of one machine;
    on a network file system it may hold nothing.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
