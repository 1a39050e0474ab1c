"""Child processes: pin them to a core, wait until they listen, read their CPU time, end them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 15.0
HOST = "127.0.0.1"

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cores:
    """The core of the measured process and the core of all other processes; the same core on a machine with one."""

    measured: int
    rest: int
    count: int

    @classmethod
    def available(cls) -> "Cores":
        """Choose among the cores that this process may use."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(measured=cores[-1], rest=cores[0], count=len(cores))


@contextmanager
def pin(core: int) -> Iterator[None]:
    """Run the block, and the processes it starts, on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def run_process(
    *command: str, core: int, folder: Path, environment: Mapping[str, str], talks: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child on ``core`` for the length of the block, then end it and its children.

    It works in ``folder`` and writes its standard error to ``stderr.log`` there; its standard output is discarded.
    With ``talks`` it gets pipes: a line in, a line out.
    """
    pipe = subprocess.PIPE if talks else subprocess.DEVNULL
    with (folder / "stderr.log").open("ab") as errors, pin(core):
        child = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=errors, cwd=folder, env=environment, start_new_session=True
        )
    try:
        yield child
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        child.send_signal(signal.SIGTERM)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # its own session, so the process group has no other members
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def environment(**settings: str) -> dict[str, str]:
    """Return this environment for a child, with these settings of Ackstream only."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ACKSTREAM_")}
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        **{f"ACKSTREAM_{name.upper()}": value for name, value in settings.items()},
    }


def program(name: str) -> str:
    """Return the path of a program installed with this Python."""
    return str(Path(sys.executable).with_name(name))


def await_port(port: int, child: subprocess.Popen[bytes], seconds: float = START_SECONDS) -> None:
    """Return when the child listens on the port."""
    deadline = time.monotonic() + seconds
    while True:
        assert child.poll() is None, f"{child.args!r} ended with {child.returncode}"
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        assert time.monotonic() < deadline, f"{child.args!r} did not listen within {seconds:.0f} s"
        time.sleep(0.02)


def await_ready(admin_port: int) -> None:
    """Return when ``/ready`` is 200 on this port, so that all processes behind it serve."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with suppress(OSError), urlopen(f"http://{HOST}:{admin_port}/ready", timeout=1):
            return
        assert time.monotonic() < deadline, f"not ready within {START_SECONDS:.0f} s"
        time.sleep(0.02)


def family_cpu_seconds(pid: int) -> dict[int, float]:
    """Return the CPU seconds of the process and of its running children, by id."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {each: cpu_seconds(each) for each in (pid, *map(int, children))}


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that the process and its threads have used."""
    return sum(map(int, _status(pid)[11:13])) / _TICKS


def thread_cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of the threads that the process has now, to the microsecond (cpu_seconds has ticks)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def tree_cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of the process and its children, also of those that have ended."""
    ticks = sum(map(int, _status(pid)[11:15]))
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # a process that has ended
            fields = _status(int(folder.name))
            ticks += sum(map(int, fields[11:13])) if fields[1] == str(pid) else 0
    return ticks / _TICKS


def peak_memory_bytes(pid: int) -> int:
    """Return the greatest resident memory of the process so far."""
    return _memory_bytes(pid, "VmHWM")


def resident_memory_bytes(pid: int) -> int:
    """Return the resident memory of the process."""
    return _memory_bytes(pid, "VmRSS")


def _memory_bytes(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024


def _status(pid: int) -> list[str]:
    """Return the fields of the status of a process after its name: its state, its parent and so on (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
