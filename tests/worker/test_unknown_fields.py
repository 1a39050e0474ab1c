"""A later version may write fields that this one does not know."""

import sys
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from stream.entry import EntryId
from stream.keys import Shard
from tests.support.in_process import run_worker
from tests.support.samples.events import body, entry
from tests.support.streams.delayed import read_delayed
from tests.support.waiting import until
from worker.replay.copier import plan_steps
from worker.replay.entry_filter import ALL
from worker.replay.entry_reader import Stored
from worker.replay.job import Place, Replay

HANDLER = """
from worker import Discard, Retry, StatusEvent

async def handle(event: StatusEvent) -> None:
    raise Retry(3600) if event.message_uuid == "later" else Discard("bad")
"""
LATER = {b"later": b"\x00\xff", b"v2": b"x"}


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A function that delays the message `later` and gives up all others."""
    (tmp_path / "giving_up.py").write_text(HANDLER)
    monkeypatch.setattr("sys.path", sys.path.copy())
    return "giving_up:handle"


async def test_fields_of_a_later_version_stay_in_delayed_retries_and_dead_letters(
    valkey_url: str, server: Redis, shard: Shard, handler: str
) -> None:
    """An entry with unknown fields is handled like any other, and its copies keep these fields."""
    for message_uuid in ("bad", "later"):
        fields: Any = entry(body(message_uuid=message_uuid)).to_fields() | LATER
        await server.xadd(shard.stream, fields)

    async def has_both() -> bool:
        return bool(await server.xlen(shard.dead(handler))) and bool(await read_delayed(server, shard, handler))

    async with run_worker(redis_url=valkey_url, stream=shard.name, handlers=handler, retention="off"):
        await until(has_both)

    letters: Any = await server.xrange(shard.dead(handler))
    ((_, letter),) = letters
    ((copy, _),) = await read_delayed(server, shard, handler)
    assert letter[b"error"] == b"discarded: bad"
    assert {name: letter[name] for name in LATER} == {name: copy[name] for name in LATER} == LATER


def test_fields_of_a_later_version_stay_in_replayed_copies() -> None:
    """A replay copies every field of the entry."""
    fields = entry(body()).to_fields() | LATER
    replay = Replay(
        id="r", group="g", place=Place.STREAM, selection=ALL, rate=1, begin="0-0", end="1-0", total=1, started_ms=0
    )
    ((copy,),) = (step.copies for step in plan_steps(replay, [Stored(EntryId(0, 1, 0), fields)]))
    assert {name: copy.fields[name] for name in LATER} == LATER
