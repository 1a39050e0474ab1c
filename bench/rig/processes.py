"""Child processes: which core they run on, when they answer, what they use, and that they end."""

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

ROOT = Path(__file__).parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 15.0
HOST = "127.0.0.1"

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cores:
    """The core of what is measured, and that of all the rest; the same one where there is no other."""

    measured: int
    rest: int
    count: int

    @classmethod
    def available(cls) -> "Cores":
        """Choose among the cores that this process may use."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(measured=cores[-1], rest=cores[0], count=len(cores))


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run the block, and all that it starts for good, on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(
    *command: str, core: int, folder: Path, environment: Mapping[str, str], talks: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child on ``core`` for the length of the block, then end it and whatever it started.

    It works in ``folder`` and writes its standard error there, to ``stderr.log``; its standard output goes nowhere.
    One that ``talks`` has pipes instead: a line in, a line out.
    """
    pipe = subprocess.PIPE if talks else subprocess.DEVNULL
    with (folder / "stderr.log").open("ab") as errors, pinned(core):
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
        os.killpg(child.pid, signal.SIGKILL)  # its own session, so its group is nobody else's
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def environment(**settings: str) -> dict[str, str]:
    """Return the environment for a child: this one's, with no setting of Ackstream's but these."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("ACKSTREAM_")}
    return {**own, "PYTHONPATH": str(ROOT), **{f"ACKSTREAM_{name.upper()}": value for name, value in settings.items()}}


def program(name: str) -> str:
    """Return the path of a program that is installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


def await_port(port: int, child: subprocess.Popen[bytes]) -> None:
    """Return when the child listens on the port."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert child.poll() is None, f"{child.args!r} ended with {child.returncode}"
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        assert time.monotonic() < deadline, f"{child.args!r} did not listen within {START_SECONDS:.0f} s"
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that the process, with all its threads, has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
