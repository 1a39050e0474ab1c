"""A lock on a file, for what only one process may have. The system takes it back when its holder ends, however it ends.

It holds among the processes of one machine; on a network file system it may hold nothing.
"""

import fcntl
import os
from pathlib import Path


def locked(path: Path) -> int | None:
    """Return a descriptor that holds the lock until it is closed, or None while another has it. Makes the file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
