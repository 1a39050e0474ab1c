"""A supervisor in the test's own process."""

import asyncio
import socket

import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
import pytest

from runtime.children.supervisor import Plan, supervise
from runtime.errors import CommandError
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
