"""Random entries, put straight into the stream for a real worker: each becomes a row or a dead letter of each group."""

import random
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.stats import gather_stats
from stream.entry import Entry, EntryId, InvalidEntry
from stream.keys import Shard
from tests.fuzz.fields import Fields, entry
from tests.support.processes import Process
from tests.support.waiting import until
from worker.events.event import InvalidStatus
from worker.events.vonage import parse
from worker.store.tables import status_events

GROUPS = ("store", "log")
ROUND_ENTRIES = 3000
PIPELINE_ENTRIES = 100
STUCK_SECONDS = 60.0

Entries = Mapping[str, Fields]


@dataclass(slots=True)
class EntryTally:
    """The number of entries, and their results in each group."""

    stored: int = 0
    dead: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        dead = ", ".join(f"{number:,} {reason}" for reason, number in sorted(self.dead.items()))
        return f"{self.stored + self.dead.total():,} entries: {self.stored:,} stored, dead letters: {dead}"


async def fuzz(
    server: Redis, shard: Shard, engine: AsyncEngine, worker: Process, seed: int, seconds: float
) -> EntryTally:
    """Append entries in rounds for this time; after each round the worker must have settled all. Then check."""
    rng, tally, deadline = random.Random(seed), EntryTally(), time.monotonic() + seconds  # noqa: S311 - no secret
    while time.monotonic() < deadline:
        entries = await _put(rng, server, shard, deadline)
        await _wait_until_settled(server, shard, worker)
        dead = await _judge(entries, server, shard, engine)
        tally.dead += dead
        tally.stored += len(entries) - dead.total()
        for key in (shard.stream, *map(shard.dead, GROUPS)):
            await server.xtrim(key, maxlen=0, approximate=False)
    await _passes(server, shard, engine)
    faults = [line for line in worker.said.splitlines() if "Traceback" in line or '"level": "error"' in line]
    assert not [line for line in faults if '"retention.missing"' not in line]  # reported for the entries removed above
    return tally


async def _put(rng: random.Random, server: Redis, shard: Shard, deadline: float) -> Entries:
    put: dict[str, Fields] = {}
    while len(put) < ROUND_ENTRIES and time.monotonic() < deadline:
        batch = [entry(rng) for _ in range(PIPELINE_ENTRIES)]
        async with server.pipeline() as pipe:
            for fields in batch:
                values: Any = fields
                pipe.xadd(shard.stream, values)
            put |= {entry_id.decode(): fields for entry_id, fields in zip(await pipe.execute(), batch, strict=True)}
    return put


async def _count_outstanding(server: Redis, shard: Shard) -> int:
    groups = (await gather_stats(server, [shard]))["groups"]
    return sum(group["outstanding"] for group in groups.values()) if len(groups) == len(GROUPS) else 1


async def _wait_until_settled(server: Redis, shard: Shard, worker: Process) -> None:
    async def is_settled() -> bool:
        return worker.lives() and await _count_outstanding(server, shard) == 0

    try:
        await until(is_settled, seconds=STUCK_SECONDS)
    except AssertionError:
        worker.lives()
        pending: Any = [await server.xpending_range(shard.stream, group, "-", "+", 3) for group in GROUPS]
        raise AssertionError(f"stuck: {pending}\n{worker.said[-2000:]}") from None


async def _judge(entries: Entries, server: Redis, shard: Shard, engine: AsyncEngine) -> Counter[str]:
    """Count the dead letters by reason; every other entry must be stored."""
    async with engine.connect() as connection:
        rows = {row.event_id for row in await connection.execute(select(status_events.c.event_id))}
    for group in GROUPS:
        buried: Any = await server.xrange(shard.dead(group))
        dead = {EntryId.from_text(fields[b"origin"].decode()).redis: fields[b"error"] for _, fields in buried}
        assert len(buried) == len(dead), "an entry was buried twice"
        for entry_id, fields in entries.items():
            good = _event_id(fields, entry_id)
            assert (good is None) == (entry_id in dead), f"{group}: {entry_id} {dict(fields)!r:.2000}"
            assert good is None or good in rows, f"not stored: {entry_id} {dict(fields)!r:.2000}"
    return Counter(error.partition(b":")[0].decode() for error in dead.values())


def _event_id(fields: Fields, entry_id: str) -> str | None:
    try:
        return parse(Entry.from_fields(fields), f"0/{entry_id}").event_id
    except (InvalidEntry, InvalidStatus):
        return None


async def _passes(server: Redis, shard: Shard, engine: AsyncEngine) -> None:
    """Put a good one, and return when it is stored."""
    message_uuid = f"good-{secrets.token_hex(6)}"
    payload = orjson.dumps({"message_uuid": message_uuid, "status": "delivered", "channel": "sms"})
    fields: Any = Entry(payload, "application/json", 1_764_000_000_000, "good").to_fields()
    await server.xadd(shard.stream, fields)

    async def is_stored() -> bool:
        async with engine.connect() as connection:
            query = select(status_events.c.event_id).where(status_events.c.message_uuid == message_uuid)
            return len((await connection.execute(query)).all()) == 1

    await until(is_stored)
