"""Removes some records that are too old, one kind after the other: in Redis, in the tables and in the archive."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from stream.keys import Shard
from stream.redis.scripts import read_script
from worker.group.consumer_group import read_group_names
from worker.retention.archive_eraser import ArchiveLocked, delete_old_files
from worker.retention.settings import RetentionSettings

STEP_ENTRIES = 500

OLD = read_script(__file__, "remove_old.lua")
OLD_INVALID = read_script(__file__, "remove_old_invalid.lua")
OLD_REFUSED = read_script(__file__, "remove_old_refused.lua")

Step = Callable[[], Awaitable[int]]
"""Removes some old records; returns their number, 0 when no old one is left."""


def open_steps(
    server: Redis, shard: Shard, settings: RetentionSettings, database_url: str | None, stack: AsyncExitStack
) -> dict[str, Step]:
    """Return the step of each kind that has an age and that this worker can clean. The tables go with shard 0.

    ``database_url`` is None for a worker that writes no tables.
    """
    ages = settings.ages_ms
    steps: dict[str, Step] = {}
    for kind, key in (("dead_letters", shard.dead), ("history", shard.history)):
        if (age := ages[kind]) is not None:
            steps[kind] = partial(_remove_of_groups, server, shard, key, server.register_script(OLD), age)
    for kind, script, keys in (
        ("invalid", OLD_INVALID, [shard.invalid, shard.invalid_totals]),
        ("quarantine", OLD_REFUSED, [shard.quarantine, shard.quarantine_index]),
    ):
        if (age := ages[kind]) is not None:
            steps[kind] = partial(_remove, server.register_script(script), keys, age)
    if (age := ages["archive"]) is not None and settings.archive is not None:
        steps["archive"] = partial(_delete_files, settings.archive, shard, age)
    if (age := ages["tables"]) is not None and database_url is not None and shard.number == 0:
        steps["tables"] = _open_tables(database_url, age, stack)
    return steps


async def _remove(script: AsyncScript, keys: Sequence[str], age_ms: int) -> int:
    removed: Any = await script(keys=keys, args=[age_ms, STEP_ENTRIES])
    return int(removed)


async def _remove_of_groups(
    server: Redis, shard: Shard, key: Callable[[str], str], script: AsyncScript, age_ms: int
) -> int:
    """Remove entries of each registered group. A dropped group is cleaned when its dead letters are discarded."""
    names = await read_group_names(server, shard)
    return sum([await _remove(script, [key(name)], age_ms) for name in names])


async def _delete_files(folder: Path, shard: Shard, age_ms: int) -> int:
    before_ms = round(time.time() * 1000) - age_ms
    with suppress(ArchiveLocked):  # the next turn comes soon
        return await asyncio.to_thread(delete_old_files, folder, shard.stream, before_ms)
    return 0


def _open_tables(database_url: str, age_ms: int, stack: AsyncExitStack) -> Step:
    from worker.retention.removal import remove_old_messages  # noqa: PLC0415 - it takes a quarter of a worker's start
    from worker.store.database import close_engine, open_engine  # noqa: PLC0415 - the same

    engine = open_engine(database_url)
    stack.push_async_callback(close_engine, engine)

    async def remove() -> int:
        return (await remove_old_messages(engine, datetime.now(UTC) - timedelta(milliseconds=age_ms))).messages

    return remove
