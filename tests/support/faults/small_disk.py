"""A disk so small that it gets full: a tmpfs of its own, where this user may mount one."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PIECE_BYTES = 64 * 1024


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """Mount it on a new folder for the length of the block; skips the test where that is not allowed."""
    folder.mkdir()
    mount, umount = (shutil.which(name) or pytest.skip(f"{name} is not installed") for name in ("mount", "umount"))
    mounting = (mount, "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "tmpfs", str(folder))
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run((umount, "--lazy", str(folder)), check=True)


def fill(disk: Path) -> Path:
    """Leave not one byte free; return the file that takes them."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * PIECE_BYTES)
    return filler
