"""Live entries do not wait behind retries and replays, and suspects are handled at nearly normal speed."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.processes import becomes
from tests.support.samples.events import body, entry
from tests.support.workers.recording import GROUP, RecordingWorkers, ids, run_recording_workers


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> Iterator[RecordingWorkers]:
    """Yield workers whose handler records its calls."""
    with run_recording_workers(valkey_url, server, shard, tmp_path) as site:
        yield site


async def test_a_live_entry_starts_within_two_calls(site: RecordingWorkers) -> None:
    """A live entry starts within two calls, behind a thousand retries and a thousand replays."""
    async with site.server.pipeline(transaction=False) as pipe:
        for number in range(1000):
            origin = f"0/5-{number}"
            retry: Any = entry(body(message_uuid=f"slow-0.2-r{number}"), origin=origin, attempt=1).to_fields()
            copy: Any = entry(body(message_uuid=f"slow-0.2-c{number}"), origin=origin, replay="r").to_fields()
            pipe.xadd(site.shard.retry(GROUP), retry)
            pipe.xadd(site.shard.replay(GROUP), copy)
        await pipe.execute()
    await site.start("concurrency=1")
    await becomes(lambda: len(site.read_notes("call")) > 10)
    for number in range(3):
        live = f"slow-0.2-live{number}"
        await site.append(live)
        before = len(site.read_notes("call"))
        await becomes(lambda live=live: site.times("call")[live])  # type: ignore[misc]
        order = [words[0] for words in site.read_notes("call")]
        assert order.index(live) - before <= 2


async def test_suspects_are_handled_at_nearly_normal_speed(site: RecordingWorkers) -> None:
    """200 suspects with calls of 50 ms, 32 at once, take less than the 10 s that single calls need at least."""
    await site.append(*ids("slow-0.05", range(200)))
    await site.server.xgroup_create(site.shard.stream, GROUP, "0")
    await site.server.sadd(site.shard.groups, GROUP)
    reply: Any = await site.server.xreadgroup(GROUP, "dead", {site.shard.stream: ">"}, count=200)
    await site.server.hset(site.shard.poison(GROUP), mapping={b"live:" + entry_id: 2 for entry_id, _ in reply[0][1]})
    await site.start("concurrency=32")
    await becomes(lambda: site.read_notes("call"))
    began = time.monotonic()
    await site.is_done()
    assert time.monotonic() - began < 9
    assert len(site.times("done")) == 200
