"""Finds the file system of a folder, and whether it keeps what a process writes there."""

import os
import re
from enum import StrEnum
from pathlib import Path

NETWORK = frozenset(
    ("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gfs2", "ocfs2",
     "beegfs", "gpfs", "orangefs", "vboxsf")
)  # fmt: skip
LOCAL_FUSE = frozenset(("fuse.ext4", "fuseblk", "fuse.lxcfs"))
MEMORY = frozenset(("tmpfs", "ramfs"))
CONTAINER = frozenset(("overlay", "aufs"))

_ESCAPE = re.compile(r"\\([0-7]{3})")


class Weakness(StrEnum):
    """Why a file system may not keep what was written, or why locks may not hold there."""

    NETWORK = "network"
    MEMORY = "memory"
    CONTAINER = "container"
    """The writable layer of a container, which goes with it."""


def find_file_system(mounts: str, folder: Path) -> str:
    """Return the type of the file system of a folder, from the text of Linux's mountinfo; empty if not known.

    https://docs.kernel.org/filesystems/proc.html#proc-pid-mountinfo-information-about-mounts
    """
    kinds: dict[Path, str] = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if len(words := before.split(" ")) > 4 and after:  # noqa: PLR2004 - the fifth is the mount point
            point = _ESCAPE.sub(lambda code: chr(int(code[1], 8)), words[4])  # a blank is \040
            kinds[Path(point)] = after.split(" ")[0]
    return next((kinds[path] for path in (folder, *folder.parents) if path in kinds), "")


def find_weakness(kind: str) -> Weakness | None:
    """Return the weakness of a type of file system; None for a local disk, and for a type that is not known."""
    if kind in NETWORK or (kind.startswith("fuse") and kind not in LOCAL_FUSE):
        return Weakness.NETWORK
    if kind in MEMORY:
        return Weakness.MEMORY
    return Weakness.CONTAINER if kind in CONTAINER else None


def find_existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())


def explain_unwritable(folder: Path) -> str:
    """Return why this user cannot make files in a folder; empty if he can."""
    if not folder.is_dir():
        return "a file has its name"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "this user may not write there"
