"""Handlers that would end their process, stop its loop, or fork it: only their own event fails, if any."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.processes import quick_worker
from tests.support.samples.events import body
from tests.support.streams.settled import append_payloads, is_settled
from tests.support.waiting import until

HANDLER = """
import asyncio, os, sys
from concurrent.futures import ThreadPoolExecutor

async def end():
    sys.exit(3)

async def fork(act):
    if child := os.fork():
        await asyncio.to_thread(os.waitpid, child, 0)
    else:
        await act()

def fork_in_thread():
    if child := os.fork():
        os.waitpid(child, 0)

async def fail():
    raise ValueError

async def spin():
    while True:
        await asyncio.sleep(0)

async def handle(event):
    with open("calls.txt", "a") as file:
        print(event.message_uuid, os.getpid(), file=file)
    if event.message_uuid == "m-0" and event.attempt == 1:
        {}
"""

ACTS = {
    "closes itself": ("raise GeneratorExit", 2),
    "stops the loop": ("asyncio.get_running_loop().stop(); await asyncio.sleep(0.01)", 1),
    "exits in a task": ("await asyncio.wait_for(end(), 10)", 2),
    "exits in a callback": ("asyncio.get_running_loop().call_soon(sys.exit); await asyncio.sleep(0.01)", 1),
    "forks": ("await fork(lambda: asyncio.sleep(0))", 1),
    "forks in a thread": ("await asyncio.to_thread(fork_in_thread)", 1),
    "forks in a thread of its own": (
        "await asyncio.get_running_loop().run_in_executor(ThreadPoolExecutor(1), fork_in_thread)",
        1,
    ),
    "forks a child that fails": ("await fork(fail)", 1),
    "forks a child that continues": ("await fork(spin)", 1),
}


@pytest.mark.parametrize(("act", "calls"), ACTS.values(), ids=list(ACTS))
async def test_a_handler_ends_only_its_own_event(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path, act: str, calls: int
) -> None:
    """The worker continues and settles all events once; a child that a handler forked calls and settles nothing."""
    (tmp_path / "ending.py").write_text(HANDLER.format(act))
    await append_payloads(server, shard, *(body(message_uuid=f"m-{number}") for number in range(4)))
    settings = {"redis_url": valkey_url, "stream": shard.name}
    with quick_worker(1, "ending=ending:handle#base=0.1&cap=0.1&timeout=300", tmp_path, settings) as worker:
        await until(lambda: has_calls(tmp_path, 3 + calls))
        await append_payloads(server, shard, body(message_uuid="m-last"))
        await until(lambda: has_calls(tmp_path, 4 + calls))
        await until(lambda: is_settled(server, shard, "ending"))
    made = [line.split() for line in (tmp_path / "calls.txt").read_text().splitlines()]
    assert sorted(name for name, _ in made) == sorted([*["m-0"] * calls, "m-1", "m-2", "m-3", "m-last"])
    assert {pid for _, pid in made} == {str(worker.child.pid)}
    assert await server.xlen(shard.dead("ending")) == 0
    assert "Traceback" not in worker.said
    assert "consumer.dropped" not in worker.said


async def has_calls(folder: Path, number: int) -> bool:
    """Whether the handler was called so often."""
    file = folder / "calls.txt"
    return file.exists() and len(file.read_text().splitlines()) >= number
