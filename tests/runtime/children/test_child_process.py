"""Children of the test's own process, which run the same code as those of a supervisor."""

import asyncio
import itertools
import math
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
from structlog.testing import capture_logs

from runtime.children.child import Inheritance
from runtime.children.child_process import ChildProcess
from tests.support.processes import becomes, runs
from tests.support.waiting import PATIENCE_SECONDS

REPORTING = """
import asyncio, sys
from functools import partial
from prometheus_client import Counter, Gauge
from runtime import process
from runtime.children.child import Child, Inheritance

child = Child(Inheritance.from_option(sys.argv[-1]))
"""
COUNTING = f"""{REPORTING}
Gauge("lowest", "").set(float("-inf"))
Gauge("unknown", "").set(float("nan"))
Gauge("others", "", ["name"])
count = Counter("stops", "", ["why"])
for number in range(10_000):
    count.labels(f"{{number:0100}}")

async def serve(stop):
    with child.report_ready(lambda: None):
        await stop.wait()
    count.labels("asked").inc()

process.run(partial(child.run, serve))
"""
FAILING = f"""{REPORTING}
Gauge("broken", "").set_function(lambda: 1 / 0)

async def serve(stop):
    with child.report_ready(lambda: None):
        await stop.wait()

process.run(partial(child.run, serve))
"""
CUT_OFF = """
import os, sys
channel = int(sys.argv[-1].split(",")[2])
os.read(channel, 1)
os.write(channel, b'{"reason": null, "fam')
"""
SHORT = """
import os, sys, time
channel = int(sys.argv[-1].split(",")[2])
os.write(channel, b"[]\\n")
time.sleep(600)
"""


@asynccontextmanager
async def run_child(code: str) -> AsyncIterator[ChildProcess]:
    """Run a child, and kill it at the end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        child = await ChildProcess.start(("-c", code), 1, 1, [])
        try:
            yield child
        finally:
            await child.terminate(0)


def read(child: ChildProcess) -> dict[str, float]:
    """Return the first sample of each name in the last report, and the count of a stop."""
    samples = [sample for family in child.report.families for sample in family.samples]
    return {f"{sample.name} {sample.labels.get('why', '')}".strip(): sample.value for sample in samples}


async def test_all_metrics_of_a_child_arrive() -> None:
    """A report above a socket's buffer arrives whole, with the last counts and values that are no JSON numbers."""
    async with run_child(COUNTING) as child:
        await child.wait_until_ready()
        before = read(child)
        await child.terminate(PATIENCE_SECONDS)
        after = read(child)

    assert before["lowest"] == -math.inf
    assert math.isnan(before["unknown"])
    assert after["stops_total asked"] == 1


async def test_a_child_ends_although_nobody_reads_its_reports() -> None:
    """A child ends on SIGTERM although its supervisor is stopped, or could not read an earlier report."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        option = Inheritance(1, 1, theirs.fileno(), []).to_option()
        command = sys.executable, "-P", "-c", COUNTING, "--child", option
        process = await asyncio.create_subprocess_exec(*command, pass_fds=[theirs.fileno()])
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                ours.send(b"\n")
                await asyncio.get_running_loop().sock_recv(ours, 1)
                process.terminate()
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()


async def test_metrics_that_cannot_be_read_do_not_stop_the_reports() -> None:
    """A gauge of a handler's own raises an error: the child still says that it is ready, and ends as asked."""
    async with run_child(FAILING) as child:
        await child.wait_until_ready()
        assert child.not_ready_reason is None
        await child.terminate(PATIENCE_SECONDS)

    assert child.exit_code == 0


async def test_a_start_that_is_cancelled_leaves_no_process() -> None:
    """Whenever a stop comes while a child starts, either the caller has the child or its process has ended."""
    for steps in itertools.count():
        starting = asyncio.create_task(ChildProcess.start(("-c", "import time; time.sleep(600)"), 1, 1, []))
        for _ in range(steps):
            await asyncio.sleep(0)
        if starting.done():
            await starting.result().terminate(0)
            break

        starting.cancel()
        await asyncio.wait([starting])

        assert starting.cancelled()
        assert [child for child in psutil.Process().children() if runs(child) and "--child" in child.cmdline()] == []


async def test_half_a_report_is_not_of_another_version() -> None:
    """A child that dies while it writes a report leaves the report before it, and no advice to restart."""
    with capture_logs() as lines:
        async with run_child(CUT_OFF) as child:
            await child.wait()

    assert [line for line in lines if line["event"] == "supervisor.report_unreadable"] == []


async def test_any_report_of_another_version_is_named() -> None:
    """The log says what to do, also for a line of another shape."""
    with capture_logs() as lines:
        async with run_child(SHORT):
            await becomes(lambda: "supervisor.report_unreadable" in [line["event"] for line in lines])
