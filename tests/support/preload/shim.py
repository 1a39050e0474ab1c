"""The shim (`shim.c`) for LD_PRELOAD: slow or failing fsync, a shifted wall clock, and a log of calls."""

import mmap
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
BUILD_SECONDS = 60.0

_ORDERS = struct.Struct("=iiq")  # fsync_delay_ms, fsync_error, clock_seconds


class Shim:
    """Controls the shim in each process that starts with `environment`. At first the shim changes nothing."""

    def __init__(self, library: Path, orders: Path, *, path: str = "", log: Path | None = None) -> None:
        """Write the file `orders`. `path`: only files whose path contains it are affected; `log`: where calls go."""
        orders.write_bytes(_ORDERS.pack(0, 0, 0))
        with orders.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _ORDERS.size)
        self._log = log
        self.environment = {
            "LD_PRELOAD": str(library),
            "PRELOAD_ORDERS": str(orders),
            **({"PRELOAD_PATH": path} if path else {}),
            **({"PRELOAD_LOG": str(log)} if log else {}),
        }

    def set(
        self, *, fsync_delay_ms: int | None = None, fsync_error: int | None = None, clock_seconds: int | None = None
    ) -> None:
        """Change these values and leave the others. `fsync_error` is an errno; 0 lets fsync succeed."""
        changes = (fsync_delay_ms, fsync_error, clock_seconds)
        current = _ORDERS.unpack(self._map[:])
        self._map[:] = _ORDERS.pack(*(old if new is None else new for old, new in zip(current, changes, strict=True)))

    @property
    def log(self) -> list[str]:
        """Return the logged calls, in order."""
        return self._log.read_text().splitlines() if self._log is not None and self._log.exists() else []


def find_compiler() -> str | None:
    """Return the C compiler; None where none is installed or the system is not Linux."""
    return (shutil.which("gcc") or shutil.which("cc")) if sys.platform == "linux" else None


def build_shim(folder: Path) -> Path | None:
    """Compile the shim into the folder; return the library, None without a compiler."""
    if (compiler := find_compiler()) is None:
        return None
    library = folder / "shim.so"
    command = (compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(SOURCE), "-ldl")
    subprocess.run(command, check=True, timeout=BUILD_SECONDS)
    return library
