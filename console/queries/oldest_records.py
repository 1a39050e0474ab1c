"""Find the oldest record of each place whose records are removed at an age."""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from runtime.errors import CommandError
from stream.entry import EntryId
from stream.keys import Shard
from stream.redis.cluster import at_key
from worker.group.consumer_group import read_group_names
from worker.retention.archive_eraser import list_files
from worker.retention.archive_reader import ArchiveDamaged
from worker.retention.settings import RetentionSettings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


async def find_oldest_entries(server: Redis, shards: Sequence[Shard]) -> Mapping[str, float | None]:
    """Return the age in seconds of the oldest entry of each place in Redis, by the server's clock. Raises RedisError.

    The age is None for an empty place. Dead letters and history are those of the registered groups. The clock is that
    of the first shard.
    """
    groups = [(shard, name) for shard in shards for name in await read_group_names(server, shard)]
    keys: Mapping[str, Iterable[str]] = {
        "stream": [shard.stream for shard in shards],
        "dead_letters": [shard.dead(name) for shard, name in groups],
        "history": [shard.history(name) for shard, name in groups],
        "invalid": [shard.invalid for shard in shards],
        "quarantine": [shard.quarantine for shard in shards],
    }
    seconds, microseconds = await at_key(server, shards[0].stream).time()
    now = seconds + microseconds / 1e6
    times = {place: [time for key in names for time in await _read_first(server, key)] for place, names in keys.items()}
    return {place: max(now - min(firsts), 0) if firsts else None for place, firsts in times.items()}


async def _read_first(server: Redis, key: str) -> list[float]:
    """Return the time of the first entry of a stream; an empty list if it has none."""
    entries: Any = await server.xrange(key, count=1)
    return [EntryId.from_redis(0, entry_id.decode()).ms / 1000 for entry_id, _ in entries]


def find_oldest_file(settings: RetentionSettings, shards: Sequence[Shard]) -> float | None:
    """Return the age in seconds of the oldest file of the archive: of its last entry. None without a file.

    Raises CommandError for a damaged archive, or OSError.
    """
    if settings.archive is None or not settings.archive.exists():
        return None
    try:
        files = [file for shard in shards for file in list_files(settings.archive, shard.stream)]
    except ArchiveDamaged as exc:
        raise CommandError(str(exc)) from exc
    return max(time.time() - min(file.last_ms for file in files) / 1000, 0) if files else None


async def find_oldest_message(engine: "AsyncEngine") -> float | None:
    """Return the age in seconds of the first status of the oldest message. Raises errors of the database."""
    from sqlalchemy import select  # noqa: PLC0415 - `stats` loads it only if the tables have an age

    from worker.store.database import open_connection  # noqa: PLC0415 - the same
    from worker.store.tables import messages  # noqa: PLC0415 - the same

    first_at = messages.c.first_at
    oldest = select(first_at).where(first_at.is_not(None)).order_by(first_at).limit(1)
    async with open_connection(engine) as connection:
        first: datetime | None = (await connection.execute(oldest)).scalar()
    return None if first is None else max((datetime.now(UTC) - first).total_seconds(), 0)
