"""Registers a consumer group, creates it again if it is gone, and saves its checkpoint.

If a group is missing (FLUSHALL, a fail-over, an operator's error), the worker creates it at its checkpoint, so that it
skips no entry that it has not settled. If the stream is newer than the checkpoint, it starts at the stream's first
entry, never at its end. A group whose position is after the last entry of its stream would skip the next entries
without an error: the worker moves it back in the same way.

Each check and its change are one script, so the stream cannot change in between. The scripts also run while Redis is
out of memory. If an operator moves a group within the stream (XGROUP SETID), it stays there.
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
        self._note = group.server.register_script(NOTE)

    async def ensure(self) -> None:
        """Register the group, create it if it is missing, and move it back if it is beyond its stream.

        Creates it also on the retry and replay streams, which have no checkpoint. Raises RedisError.
        """
        shard = self._group.shard
        for stream, start in (await create_group(self._group)).items():
            event = "group.created" if stream == shard.stream else "group.created_for_copies"
            log.info(event, group=self._group.name, stream=stream, start=start)

    async def save_checkpoint(self) -> None:
        """Save the id up to which all entries are settled. A stale checkpoint only costs repeats.

        Raises GroupGone, and saves nothing, if the group is missing or beyond its stream; and RedisError.
        """
        if await self._note(keys=[self._group.shard.stream, self._group.checkpoint], args=[self._group.name]) is None:
            raise GroupGone


async def create_group(group: GroupRef) -> dict[str, str]:
    """Do what ``ConsumerGroup.ensure`` describes. Return the streams it was created on, each with its start."""
    ensure, created = group.server.register_script(ENSURE), {}
    for stream in group.streams.values():
        keys = [stream, group.shard.groups, *([group.checkpoint] if stream == group.shard.stream else [])]
        start: Any = await ensure(keys=keys, args=[group.name])
        if start is not None:
            created[stream] = start.decode()
    return created


async def read_group_names(server: Redis, shard: Shard) -> list[str]:
    """Return the names of the shard's registered groups, whether or not they exist now. Raises RedisError."""
    names: Any = await server.smembers(shard.groups)
    return sorted(name.decode(errors="backslashreplace") for name in names)
