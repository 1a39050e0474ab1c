"""The end of a process: cleanly after the first signal, at once after the second, even with code that blocks."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import becomes

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, sys, threading, time
from runtime import logs, process
from runtime.errors import CommandError
logs.configure("json")

async def deaf():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

def blocked():
    time.sleep(3600)

async def serve(stop):
    print("started", flush=True)
{body}

process.run(serve)
"""


@contextmanager
def program(body: str, output: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process that serves by this body."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    with output.open("wb") as file:
        child = subprocess.Popen((sys.executable, "-c", PROGRAM.format(body=lines)), cwd=ROOT, stdout=file, stderr=file)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


async def wait_for_end(child: "subprocess.Popen[bytes]", seconds: float) -> int:
    await becomes(lambda: child.poll() is not None, seconds=seconds)
    return child.wait()


DEAF: dict[str, str] = {
    "ignores its cancellation": "await asyncio.gather(deaf())",
    "ignores its cancellation in a task": "asyncio.create_task(deaf())\nawait asyncio.Event().wait()",
    "blocks the loop": "blocked()",
    "blocks a thread": "await asyncio.to_thread(blocked)",
    "waits for ever after its cancellation": (
        "try:\n    await asyncio.Event().wait()\nfinally:\n    await asyncio.gather(deaf())"
    ),
}


@pytest.mark.parametrize("body", DEAF.values(), ids=list(DEAF))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_always_ends_the_process(tmp_path: Path, body: str, number: signal.Signals) -> None:
    """The process ends within seconds with exit code 130, even with code that blocks."""
    output = tmp_path / "output"
    with program(body, output) as child:
        await becomes(lambda: b"started" in output.read_bytes())
        child.send_signal(number)
        started = time.monotonic()
        await becomes(lambda: time.monotonic() > started + 0.2)  # else two signals may become one
        assert child.poll() is None
        child.send_signal(number)
        assert await wait_for_end(child, 10) == 130


ENDS: dict[str, tuple[str, int, str]] = {
    "returns": ("asyncio.create_task(deaf())\nawait asyncio.sleep(0)", 0, "process.tasks_hang"),
    "returns with a blocked thread": ("asyncio.get_running_loop().run_in_executor(None, blocked)", 0, ""),
    "fails": ("asyncio.create_task(deaf())\nawait asyncio.sleep(0)\n1 / 0", 1, "ZeroDivisionError"),
    "fails with a blocked thread": (
        "asyncio.get_running_loop().run_in_executor(None, blocked)\n1 / 0",
        1,
        "ZeroDivisionError",
    ),
    "is refused": (
        "asyncio.create_task(deaf())\nawait asyncio.sleep(0)\nraise CommandError('no')",
        1,
        "CommandError: no",
    ),
    "fails in a group of tasks": (
        "async def fails():\n    1 / 0\nasync with asyncio.TaskGroup() as tasks:\n    tasks.create_task(fails())",
        1,
        "ZeroDivisionError",
    ),
}


@pytest.mark.parametrize(("body", "code", "words"), ENDS.values(), ids=list(ENDS))
async def test_a_process_whose_work_is_done_or_has_failed_ends(
    tmp_path: Path, body: str, code: int, words: str
) -> None:
    """Tasks that ignore their cancellation and threads that are blocked do not hold it up; the error is shown."""
    output = tmp_path / "output"
    with program(body, output) as child:
        assert await wait_for_end(child, 15) == code
    assert words in output.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_the_first_signal_lets_it_finish(tmp_path: Path, number: signal.Signals) -> None:
    """The signal is logged, and the exit code is 0; a closed terminal sends SIGHUP."""
    output = tmp_path / "output"
    with program("await stop.wait()\nprint('finished', flush=True)", output) as child:
        await becomes(lambda: b"started" in output.read_bytes())
        child.send_signal(number)
        assert await wait_for_end(child, 10) == 0
    assert "finished" in output.read_text()
    assert f'"why": "{number.name}"' in output.read_text()
