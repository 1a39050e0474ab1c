"""Reads the state of the system: from Redis, the database and the workers' output, past every proxy."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.stats import gather_stats
from stream.keys import Shard
from tests.chaos.checker import payloads, spools
from tests.chaos.checker.analysis import GROUPS, Observations
from worker.store.tables import messages, status_events

CHUNK = 500
PAGE = 1000

_LOGGED = re.compile(rb'"message_uuid": ?"(chaos-[^"]+)"')


@dataclass(frozen=True, slots=True)
class Places:
    """The places to read. The folder `output` has the logs of the workers, in files `worker-*.log`."""

    server: Redis
    shards: Sequence[Shard]
    engine: AsyncEngine
    output: Path
    ingest_admin_urls: Sequence[str]
    ingest_data: Path


class Observer:
    """Makes observations. It reads each part of the workers' output once and remembers the ids."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._logged: set[str] = set()
        self._read_bytes: defaultdict[Path, int] = defaultdict(int)

    async def count_unsettled(self) -> dict[str, int]:
        """Count the entries that are not settled, by place; empty when all are settled. Raises RedisError."""
        groups = (await gather_stats(self._places.server, self._places.shards))["groups"]
        left = {
            f"{group} {kind}": groups[group][kind] if group in groups else 1
            for group in GROUPS
            for kind in ("unread", "pending", "retries")
        }
        left["spool"] = await spools.count_entries(self._places.ingest_admin_urls, self._places.ingest_data)
        return {name: count for name, count in left.items() if count}

    async def observe(self, message_ids: Sequence[str]) -> Observations:
        """Return the observations of these messages. Raises the errors of Redis and the database."""
        event, message = status_events.c, messages.c
        bodies = await self._rows(event.message_uuid, event.payload, message_ids)
        statuses = await self._rows(message.message_uuid, message.status, message_ids)
        self._read_output()
        dead = {group: await self._dead(group) for group in GROUPS}
        return Observations(bodies, statuses, self._logged, dead)

    async def _rows(self, key: Any, value: Any, message_ids: Iterable[str]) -> dict[str, list[Any]]:
        values: defaultdict[str, list[Any]] = defaultdict(list)
        async with self._places.engine.connect() as connection:
            for part in _chunks(message_ids):
                for message_id, column in await connection.execute(select(key, value).where(key.in_(part))):
                    values[message_id].append(column)
        return dict(values)

    async def _dead(self, group: str) -> dict[str, list[str]]:
        reasons: defaultdict[str, list[str]] = defaultdict(list)
        for shard in self._places.shards:
            after = "-"
            while page := await self._page(shard.dead(group), after):
                for _, fields in page:
                    reason = fields.get(b"error", b"").decode(errors="replace").partition(":")[0]
                    if (named := payloads.ID.search(fields.get(b"payload", b""))) is not None:
                        reasons[named.group().decode()].append(reason)
                after = f"({page[-1][0].decode()}"
        return dict(reasons)

    async def _page(self, stream: str, after: str) -> list[Any]:
        try:
            page: Any = await self._places.server.xrange(stream, after, "+", count=PAGE)
        except ResponseError:  # no such stream
            return []
        return list(page)

    def _read_output(self) -> None:
        for path in self._places.output.glob("worker-*.log"):
            with path.open("rb") as file:
                file.seek(self._read_bytes[path])
                content = file.read()
            complete = content[: content.rfind(b"\n") + 1]
            self._read_bytes[path] += len(complete)
            lines = (line for line in complete.splitlines() if b'"message.status"' in line)
            self._logged.update(named.group(1).decode() for line in lines if (named := _LOGGED.search(line)))


def _chunks(message_ids: Iterable[str]) -> Iterator[list[str]]:
    remaining_ids = iter(message_ids)
    while chunk := list(islice(remaining_ids, CHUNK)):
        yield chunk
