"""A small disk for the spool that a fault can fill: a tmpfs in a mount namespace of this process."""

import ctypes
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.fork_server import leave_address

SIZE_MIB = 64
MOUNT_SECONDS = 10.0

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS


def unshare() -> bool:
    """Make a mount namespace that ends with this process and its children; return False where this is not permitted.

    The process must have a single thread. A fork server that a parent has started is outside.
    """
    leave_address()
    unshared = getattr(ctypes.CDLL(None), "unshare", lambda _: -1)(_NEW_MOUNTS) == 0
    return unshared and _mount("--make-rprivate", "/")


@contextmanager
def mount_disk(folder: Path) -> Iterator[None]:
    """Mount an empty disk on the folder during the block."""
    if not _mount("-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0700", "chaos", str(folder)):
        raise OSError(f"cannot mount a disk on {folder}")
    try:
        yield
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=False, timeout=MOUNT_SECONDS)


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(("mount", *arguments), check=False, timeout=MOUNT_SECONDS).returncode == 0
    except FileNotFoundError:
        return False
