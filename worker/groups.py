"""A consumer group: registered, made again where it belongs when it is gone, its progress noted.

A group that is missing (FLUSHALL, a fail-over, an operator's slip) is made again at its checkpoint, so that nothing it
has not settled is passed by; if the stream is younger than the checkpoint, at its beginning. Never at its end.
"""

from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from stream.entry import EntryId
from stream.keys import Shard

log = structlog.get_logger("group")

BEGINNING = "0"


class Group:
    """One consumer group of one shard."""

    def __init__(self, server: Redis, shard: Shard, name: str) -> None:
        self._server = server
        self.shard = shard
        self.name = name
        self._saved: EntryId | None = None

    async def ensure(self) -> None:
        """Register the group and make it if it is missing."""
        if not await self._server.sismember(self.shard.groups, self.name):  # SADD would fail on a full server
            await self._server.sadd(self.shard.groups, self.name)
        if await self._exists():
            return
        start = await self._start()
        try:
            await self._server.xgroup_create(self.shard.stream, self.name, id=start, mkstream=True)
        except ResponseError as exc:
            if not str(exc).startswith("BUSYGROUP"):  # another worker was faster
                raise
        else:
            log.info("group.made", group=self.name, stream=self.shard.stream, start=start)

    async def save_checkpoint(self) -> None:
        """Note the id up to which everything is settled. One that is stale costs repeats only.

        The order of the two questions matters: what is delivered between them shows up as pending.
        """
        async with self._server.pipeline(transaction=False) as pipe:
            pipe.xinfo_groups(self.shard.stream)
            pipe.xpending(self.shard.stream, self.name)
            groups, pending = await pipe.execute()
        delivered = {group["name"]: group["last-delivered-id"] for group in groups}
        if pending["pending"]:
            checkpoint = EntryId.from_redis(self.shard.number, pending["min"]).before()
        else:
            checkpoint = EntryId.from_redis(self.shard.number, delivered.get(self.name.encode(), BEGINNING))
        if checkpoint != self._saved:
            await self._server.set(self.shard.checkpoint(self.name), checkpoint.redis)
            self._saved = checkpoint

    async def _exists(self) -> bool:
        try:
            groups = await self._server.xinfo_groups(self.shard.stream)
        except ResponseError:  # no such key
            return False
        return any(group["name"] == self.name.encode() for group in groups)

    async def _start(self) -> str:
        saved = await self._server.get(self.shard.checkpoint(self.name))
        if saved is None:
            return BEGINNING
        checkpoint = EntryId.from_redis(self.shard.number, saved)
        try:
            stream = await self._server.xinfo_stream(self.shard.stream)
        except ResponseError:  # no such key
            return BEGINNING
        last = EntryId.from_redis(self.shard.number, stream["last-generated-id"])
        return checkpoint.redis if checkpoint <= last else BEGINNING


async def registered(server: Redis, shard: Shard) -> list[str]:
    """Return the names of the shard's groups, whether or not they exist right now. Raises RedisError."""
    names: Any = await server.smembers(shard.groups)
    return sorted(name.decode() for name in names)
