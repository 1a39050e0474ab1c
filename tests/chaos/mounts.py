"""A small disk for the spool, so that it can be full: a tmpfs in a mount namespace of this process's own."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIZE_MIB = 64
MOUNT_SECONDS = 10.0

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
_PIECE = bytes(1024 * 1024)


def unshare() -> bool:
    """Take a mount namespace of one's own, which ends with this process and its children; False where not permitted.

    To be called while the process has one thread.
    """
    unshared = getattr(ctypes.CDLL(None), "unshare", lambda _: -1)(_NEW_MOUNTS) == 0
    return unshared and _mount("--make-rprivate", "/")


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """Mount an empty disk on the folder for the length of the block."""
    if not _mount("-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0700", "chaos", str(folder)):
        raise OSError(f"cannot mount a disk on {folder}")
    try:
        yield
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=False, timeout=MOUNT_SECONDS)


def fill(disk: Path) -> Path:
    """Leave no room on the disk; return the file that takes it."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            os.write(file.fileno(), _PIECE)  # the last one is cut to what fits
    return ballast


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(("mount", *arguments), check=False, timeout=MOUNT_SECONDS).returncode == 0
    except FileNotFoundError:
        return False
