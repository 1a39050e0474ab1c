"""Reads the entries of one consumer in order mode, with a script that refuses a worker that has lost its shard.

A worker that was stopped must not read entries that the new owner of the shard then skips. A script cannot wait for
entries, so a plain XREAD does.
"""

from typing import Any

from stream.redis.scripts import read_script
from worker.consumer.fetch_plan import FetchPlan
from worker.consumer.fetcher import FetchedEntries, Fetcher
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat
from worker.order.fence import Fence

READ = read_script(__file__, "read_streams.lua")


class OrderedFetcher(Fetcher):
    """The fetcher of order mode. Its reads also raise OwnershipLost."""

    def __init__(self, group: GroupRef, heartbeat: Heartbeat, batch_entries: int, fence: Fence) -> None:
        super().__init__(group, heartbeat, batch_entries)
        self._read_streams = fence.register(READ)
        self._ends: dict[str, Any] = {}

    async def _wait(self, plan: FetchPlan, block_ms: int) -> FetchedEntries:
        """Read all streams; if none has new entries, wait until one has, and read again."""
        entries = await self._read_at_once(plan)
        if not entries:
            ends: Any = self._ends
            if not await self._server.xread(ends, count=1, block=block_ms):
                return {}
            entries = await self._read_at_once(plan)
        return entries

    async def _read_at_once(self, plan: FetchPlan) -> FetchedEntries:
        streams = [self._streams[source] for source in plan.counts]
        args = [self._group, self._heartbeat.consumer, *plan.counts.values()]
        replies: Any = await self._read_streams(keys=streams, args=args)
        self._ends = {stream: reply[1] for stream, reply in zip(streams, replies, strict=True) if len(reply) > 1}
        return {source: reply[0] for source, reply in zip(plan.counts, replies, strict=True) if reply[0]}
