"""A supervisor in the test's own process."""

import asyncio
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
import pytest
from structlog.testing import capture_logs

from runtime.children import child_process
from runtime.children.supervisor import Plan, Supervisor, supervise
from runtime.errors import CommandError
from runtime.server_socket import reserve_port
from tests.support.processes import becomes, runs
from tests.support.waiting import PATIENCE_SECONDS


async def reserve() -> list[socket.socket]:
    """Reserve nothing: the children have no port."""
    return []


async def test_a_child_that_cannot_start_ends_its_supervisor() -> None:
    """The error names the child, and the others end too."""
    command = "-c", "import sys, time; sys.exit(1) if '--child 1,2,' in ' '.join(sys.argv) else time.sleep(600)"
    plan = Plan(command, 2, 0, "127.0.0.1", 0, bytes)

    with pytest.RaisesGroup(pytest.RaisesExc(CommandError, match="process 1 failed to start")):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await supervise(plan, reserve, asyncio.Event())


HANGING_ONCE = """
import os, pathlib, sys, time
channel, hung = int(sys.argv[-1].split(",")[2]), pathlib.Path({!r})
while os.read(channel, 1):
    os.write(channel, b'{{"reason": null, "families": []}}\\n')
    if not hung.exists():
        hung.write_text(str(os.getpid()))
        time.sleep(600)
"""


async def test_a_child_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The supervisor kills a child that was ready and answers no more, logs it, and starts another one."""
    monkeypatch.setattr(child_process, "ASK_SECONDS", 0.05)
    hung, stop = tmp_path / "hung", asyncio.Event()
    plan = Plan(("-c", HANGING_ONCE.format(str(hung))), 1, 0, "127.0.0.1", 0, bytes)
    supervisor = Supervisor(plan, [], stop)

    with capture_logs() as lines:
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
            tasks.create_task(supervisor.run())
            await becomes(lambda: supervisor.not_ready_reason() is None)
            await becomes(lambda: "supervisor.child_died" in [line["event"] for line in lines])
            await becomes(lambda: supervisor.not_ready_reason() is None)
            stop.set()

    hanging, died = [
        next(line for line in lines if line["event"] == f"supervisor.child_{event}") for event in ("hangs", "died")
    ]
    assert (hanging["pid"], died["code"]) == (int(hung.read_text()), -signal.SIGKILL)
    assert list_children() == []


def list_children() -> list[psutil.Process]:
    """Return the children that a supervisor in this process has started."""
    return [child for child in psutil.Process().children() if runs(child) and "--child" in child.cmdline()]


async def test_a_stop_ends_all_children() -> None:
    """The supervisor returns when all have ended."""
    plan = Plan(("-c", "import time; time.sleep(600)"), 2, 0, "127.0.0.1", 0, bytes)
    stop = asyncio.Event()

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(supervise(plan, reserve, stop))
        await becomes(lambda: len(list_children()) == 2)
        stop.set()

    assert list_children() == []


async def test_a_stop_before_the_start_starts_nothing() -> None:
    """The stop came while the ports were opened."""
    plan = Plan(("-c", "import time; time.sleep(600)"), 2, 0, "127.0.0.1", 0, bytes)
    stop = asyncio.Event()
    stop.set()
    reserve_one = partial(reserve_port, ["127.0.0.1"], 0, setting="ACKSTREAM_PORT", receive_bytes=4096)

    with capture_logs() as lines:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await supervise(plan, reserve_one, stop)

    assert [line["event"] for line in lines] == ["supervisor.started", "supervisor.stopped"]


async def test_a_system_that_starts_no_process_ends_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At a rolling restart the interpreter is missing, as in the middle of an upgrade: the old child keeps running."""
    plan = Plan(("-c", "import time; time.sleep(600)"), 1, 0, "127.0.0.1", 0, bytes)
    stop = asyncio.Event()

    with capture_logs() as lines:
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
            tasks.create_task(supervise(plan, reserve, stop))
            await becomes(list_children)
            before = list_children()
            with monkeypatch.context() as patch:
                patch.setattr(sys, "executable", str(tmp_path / "missing"))
                os.kill(os.getpid(), signal.SIGHUP)
                await becomes(lambda: "supervisor.start_failed" in [line["event"] for line in lines])
            assert list_children() == before
            stop.set()


async def test_two_signals_at_once_end_all_children(tmp_path: Path) -> None:
    """A child that does not end is killed, although the grace is long."""
    code = (
        "import pathlib, signal, time; signal.signal(15, signal.SIG_IGN); pathlib.Path({!r}).touch(); time.sleep(600)"
    )
    plan = Plan(("-c", code.format(str(tmp_path / "started"))), 1, 600, "127.0.0.1", 0, bytes)
    stop = asyncio.Event()

    async with asyncio.timeout(PATIENCE_SECONDS):
        supervising = asyncio.create_task(supervise(plan, reserve, stop))
        await becomes((tmp_path / "started").exists)
        stop.set()
        supervising.cancel()
        await asyncio.wait([supervising])

    assert supervising.cancelled()
    await becomes(lambda: list_children() == [])  # a killed process ends when it next runs
