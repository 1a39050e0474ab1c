"""Count the instructions that a process executes during an action, with valgrind's callgrind.

The count leaves out the start of the process. It hardly depends on other programs, so it shows changes that are smaller
than the noise of CPU times. ``perf stat`` would be faster, but many virtual machines do not have its counters.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.rig.processes import run_process

CONTROL_SECONDS = 60.0
OUT = "callgrind.out"

_TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


def has_counter() -> bool:
    """Whether valgrind is installed."""
    return shutil.which("valgrind") is not None and shutil.which("callgrind_control") is not None


@dataclass(frozen=True, slots=True)
class CountedProcess:
    """A process under callgrind, about 20 times slower while it is counted."""

    child: "subprocess.Popen[bytes]"
    folder: Path

    def count(self, action: Callable[[], None]) -> int:
        """Return the instructions of the process during the action."""
        self._control("-i", "on")
        action()
        self._control("-i", "off")
        self._control("-d")
        dumps = sorted(self.folder.glob(f"{OUT}.*"), key=lambda path: path.stat().st_mtime_ns)
        return int(_TOTALS.findall(dumps[-1].read_text())[-1])

    def _control(self, *arguments: str) -> None:
        subprocess.run(
            ["callgrind_control", *arguments, str(self.child.pid)],  # noqa: S607 - of the developer's valgrind
            check=True,
            timeout=CONTROL_SECONDS,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def run_counted(*command: str, core: int, folder: Path, environment: Mapping[str, str]) -> Iterator[CountedProcess]:
    """Run a child under callgrind for the length of the block."""
    folder.mkdir()
    valgrind = "valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder / OUT}"
    fixed = {**environment, "PYTHONHASHSEED": "0"}
    with run_process(*valgrind, *command, core=core, folder=folder, environment=fixed) as child:
        yield CountedProcess(child, folder)
