"""The log's output: it never blocks, never raises, loses no line while it can be written, and counts those it loses."""

import fcntl
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.log_output import WAITING_CHARACTERS, LogOutput
from tests.support.faults.redis_outages import read_metric
from tests.support.processes import becomes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pipe() -> tuple[int, int]:
    """The two ends of a pipe."""
    return os.pipe()


def lost() -> float:
    return read_metric("log_lines_lost_total")


def test_every_line_is_written_in_order(tmp_path: Path) -> None:
    """However many come at once, and however long one is."""
    lines = [f"line {n} {'x' * (n % 7000)}\n" for n in range(3000)] + ["y" * 100_000 + "\n", "\ud800\n"]
    with (tmp_path / "log").open("wb") as file:
        output = LogOutput(file.fileno())
        for line in lines:
            output.write(line)
        output.drain(20)
    assert (tmp_path / "log").read_text() == "".join(lines[:-1]) + "\\ud800\n"


async def test_a_pipe_that_nobody_reads_holds_nobody_up(pipe: tuple[int, int]) -> None:
    """Lines wait up to a limit; further ones are lost and counted. A returning reader gets the waiting lines whole."""
    reader, writer = pipe
    output, before = LogOutput(writer), lost()
    line = "x" * 999 + "\n"
    started = time.monotonic()
    for _ in range(2 * WAITING_CHARACTERS // len(line)):
        output.write(line)
    assert time.monotonic() - started < 5
    assert lost() - before >= WAITING_CHARACTERS // len(line) - 100
    output.drain(0.01)
    received = b""
    while select.select((reader,), (), (), 2.0)[0]:
        received += os.read(reader, 1 << 20)
    assert set(received.split(b"\n")) == {line.strip().encode(), b""}
    output.write("the last\n")
    await becomes(lambda: bool(select.select((reader,), (), (), 0)[0]))
    assert os.read(reader, 100) == b"the last\n"
    os.close(reader)


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    """A terminal that another program has set so: the thread waits, and every line comes."""
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETFL, fcntl.fcntl(writer, fcntl.F_GETFL) | os.O_NONBLOCK)
    output = LogOutput(writer)
    for _ in range(1000):
        output.write("x" * 999 + "\n")
    received = 0
    while received < 1_000_000:
        received += len(os.read(reader, 1 << 16))
    output.drain(5)
    os.close(reader)


def test_what_cannot_be_written_is_counted(pipe: tuple[int, int]) -> None:
    """A reader that is gone, a full disk, no standard output at all."""
    reader, writer = pipe
    os.close(reader)
    with Path("/dev/full").open("wb") as full:
        for descriptor in (writer, full.fileno(), None):
            output, before = LogOutput(descriptor), lost()
            output.write("one\n")
            output.write("two\n")
            output.drain(20)
            assert lost() - before == 2


CLOSED = """
import os
os.close(1)
{more}
import logging
import structlog
from runtime import logs
logs.configure("json")
class Unfit:
    def __repr__(self):
        raise ValueError
log = structlog.get_logger("test")
log.info("a.line", value=Unfit())
logging.getLogger("foreign").error("%s %s", "too few")
log.info("another.line")
"""


@pytest.mark.parametrize("more", ["", "import sys; sys.stdout = None"])
def test_logging_never_raises(more: str) -> None:
    """Without a standard output, and with values that cannot be shown, logging raises nothing and writes no error."""
    result = subprocess.run(
        (sys.executable, "-c", CLOSED.format(more=more)), cwd=ROOT, capture_output=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, b"")
