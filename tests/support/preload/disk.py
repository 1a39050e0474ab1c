"""What is preloaded into a process to make its disk slow or failing, and to see what it does in which order."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("disk.c")


@dataclass(frozen=True, slots=True)
class Shim:
    """Compiled for one test; what it does is chosen while the process runs."""

    library: Path
    folder: Path
    path: str

    @property
    def environment(self) -> dict[str, str]:
        """What the process has to be started with."""
        return {
            "LD_PRELOAD": str(self.library),
            "SHIM_PATH": self.path,
            "SHIM_FAIL": str(self.folder / "shim-fail"),
            "SHIM_SLOW": str(self.folder / "shim-slow"),
            "SHIM_LOG": str(self.folder / "shim-log"),
        }

    def fail(self, *, on: bool) -> None:
        """Let every fsync of the files fail from now on, or no longer."""
        file = self.folder / "shim-fail"
        file.touch() if on else file.unlink()

    def slow(self, milliseconds: int) -> None:
        """Let every fsync of the files take so much longer from now on."""
        (self.folder / "shim-slow").write_text(str(milliseconds))

    @property
    def log(self) -> list[str]:
        """What has happened so far."""
        file = self.folder / "shim-log"
        return file.read_text().splitlines() if file.exists() else []


def compiled(folder: Path, path: str) -> Shim:
    """Compile it for files whose path contains this; skips the test where it cannot be compiled or preloaded."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler, or no way to preload what it makes")
    library = folder / "shim.so"
    command = (compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(SOURCE), "-ldl")
    subprocess.run(command, check=True, capture_output=True)
    return Shim(library, folder, path)
