"""A consumer group: registered, made again where it belongs when it is gone, its progress noted.

A group that is missing (FLUSHALL, a fail-over, an operator's slip) is made again at its checkpoint, so that nothing it
has not settled is passed by; if the stream is younger than the checkpoint, at its beginning. Never at its end. A group
that stands beyond the last entry of its stream would pass by what comes next without an error: it is put back likewise.

Each of both is one script, so nothing can happen to the stream between question and act. A full server runs them too.
A group that an operator moves within the stream (XGROUP SETID) is left where it was put.
"""

from typing import Any

import structlog
from redis.asyncio import Redis

from stream.keys import Shard
from stream.redis.errors import GroupGone
from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef

log = structlog.get_logger("group")


ENSURE = read_script(__file__, "ensure_group.lua")
NOTE = read_script(__file__, "save_checkpoint.lua")


class ConsumerGroup:
    """One consumer group of one shard."""

    def __init__(self, group: GroupRef) -> None:
        self._group = group
        self._ensure = group.server.register_script(ENSURE)
        self._note = group.server.register_script(NOTE)

    async def ensure(self) -> None:
        """Register the group, make it if it is missing, put it back if it is beyond its stream. Raises RedisError.

        Likewise on the streams of its copies, which have no checkpoint.
        """
        shard = self._group.shard
        for stream in self._group.streams.values():
            keys = [stream, shard.groups, *([self._group.checkpoint] if stream == shard.stream else [])]
            start = await self._ensure(keys=keys, args=[self._group.name])
            if start is not None:
                made = "group.created" if stream == shard.stream else "group.created_for_copies"
                log.info(made, group=self._group.name, stream=stream, start=start.decode())

    async def save_checkpoint(self) -> None:
        """Note the id up to which everything is settled. One that is stale costs repeats only.

        Raises GroupGone, and notes nothing, if the group is missing or beyond its stream; and RedisError.
        """
        if await self._note(keys=[self._group.shard.stream, self._group.checkpoint], args=[self._group.name]) is None:
            raise GroupGone


async def read_group_names(server: Redis, shard: Shard) -> list[str]:
    """Return the names of the shard's groups, whether or not they exist right now. Raises RedisError."""
    names: Any = await server.smembers(shard.groups)
    return sorted(name.decode() for name in names)
