"""Removes entries from streams, and waits for those that a worker has in flight.

A worker that has read an entry may write it to the tables or call a handler after the entry is gone. So an entry that
is pending for a living consumer is removed when the consumer has settled it. A consumer without a heartbeat for
``TIMING.late`` settles nothing any more.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from console.privacy.place import Unreachable
from stream.keys import Shard
from stream.redis.scripts import read_script
from worker.timing import TIMING

IDS_AT_ONCE = 100
POLL_SECONDS = 0.25
WAIT_SECONDS = 75.0
"""A handler may take 60 s by default."""

REMOVE = read_script(__file__, "remove_entries.lua")

Holder = tuple[bytes, bytes]
"""A group and a consumer."""


class EntryRemover:
    """Removes entries of the streams of one shard."""

    def __init__(self, server: Redis, shard: Shard, wait_seconds: float = WAIT_SECONDS) -> None:
        self._server = server
        self._shard = shard
        self._wait_seconds = wait_seconds
        self._script = server.register_script(REMOVE)
        self._beats: dict[Holder, tuple[bytes | None, float]] = {}

    async def remove(self, stream: str, ids: Sequence[bytes]) -> int:
        """Remove entries, each when no living consumer has it in flight; return their number.

        Raises Unreachable if some are still in flight at the end of the wait, and RedisError.
        """
        removed, waiting, deadline = 0, list(ids), time.monotonic() + self._wait_seconds
        while True:
            count, holders = await self._remove(stream, waiting, by_force=False)
            removed += count
            living = {holder for holder in set().union(*holders.values()) if await self._lives(holder)}
            orphans = [entry_id for entry_id, named in holders.items() if living.isdisjoint(named)]
            removed += (await self._remove(stream, orphans, by_force=True))[0]
            waiting = [entry_id for entry_id in holders if entry_id not in orphans]
            if not waiting:
                return removed
            if time.monotonic() > deadline:
                raise Unreachable(
                    f"{len(waiting)} entries of {stream} are in flight in a worker: run the command again when they "
                    "are settled, or stop the worker",
                    removed,
                )
            await asyncio.sleep(POLL_SECONDS)

    async def _remove(
        self, stream: str, ids: Sequence[bytes], *, by_force: bool
    ) -> tuple[int, dict[bytes, set[Holder]]]:
        removed, holders = 0, dict[bytes, set[Holder]]()
        keys = [stream, self._shard.removed]
        for start in range(0, len(ids), IDS_AT_ONCE):
            batch = ids[start : start + IDS_AT_ONCE]
            args: list[Any] = [int(stream == self._shard.stream), int(by_force), *batch]
            count, in_flight = await self._script(keys=keys, args=args)
            removed += count
            for entry_id, group, consumer in in_flight:
                holders.setdefault(entry_id, set()).add((group, consumer))
        return removed, holders

    async def _lives(self, holder: Holder) -> bool:
        """Whether the heartbeat of a consumer has moved lately. Without a counter it has left, or is not a worker."""
        group, consumer = holder
        reply: Any = await self._server.hmget(self._shard.alive(group.decode(errors="backslashreplace")), consumer)
        (beat,), now = reply, time.monotonic()
        before, since = self._beats.get(holder, (None, now))
        if beat != before:
            since = now
        self._beats[holder] = beat, since
        return beat is not None and now - since < TIMING.late
