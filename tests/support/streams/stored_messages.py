"""Messages in the tables of a console's database."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from stream.entry import Entry
from stream.keys import Shard
from worker.events.event import StatusEvent
from worker.events.vonage import parse
from worker.store.database import open_engine
from worker.store.handler import Store


async def store_events(database_url: str, events: Sequence[StatusEvent]) -> None:
    """Write the events as the `store` handler does."""
    engine = open_engine(database_url)
    try:
        await Store(engine).handle(events)
    finally:
        await engine.dispose()


async def store_stream(database_url: str, server: Redis, shard: Shard) -> None:
    """Write the events of all entries of the stream."""
    entries: Any = await server.xrange(shard.stream)
    fields = [(f"{shard.number}/{entry_id.decode()}", Entry.from_fields(values)) for entry_id, values in entries]
    await store_events(database_url, [parse(entry, entry_id) for entry_id, entry in fields])
