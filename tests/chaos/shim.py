"""The shim (shim.c): built once, preloaded into processes, and told by a file of each what to do while they run."""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
BUILD_SECONDS = 60.0

_ORDERS = struct.Struct("=iiq")  # fsync_delay_ms, fsync_error, clock_seconds


class Orders:
    """What one process's shim does from now on. At first nothing."""

    def __init__(self, library: Path, file: Path) -> None:
        file.write_bytes(_ORDERS.pack(0, 0, 0))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), _ORDERS.size)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_SHIM": str(file)}
        """With this the process is to be started."""

    def give(
        self, *, fsync_delay_ms: int | None = None, fsync_error: int | None = None, clock_seconds: int | None = None
    ) -> None:
        """Change what is given; the rest stays. An ``fsync_error`` is an errno, and 0 lets fsync succeed."""
        given = (fsync_delay_ms, fsync_error, clock_seconds)
        now = _ORDERS.unpack(self._map[:])
        self._map[:] = _ORDERS.pack(*(old if new is None else new for old, new in zip(now, given, strict=True)))


def build(folder: Path) -> Path | None:
    """Compile the shim into the folder; None where there is no C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "shim.so"
    command = (compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl")
    subprocess.run(command, check=True, timeout=BUILD_SECONDS)
    return library
