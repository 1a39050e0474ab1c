"""The backlog of a group, the bytes of its delayed retries and dead letters on all shards, and its limit.

The worker still delays and dead-letters entries when Redis is out of memory, so the backlog needs a limit. At the
limit the group reads and handles no live entries; its retries continue. While Redis is at its maxmemory, the limit is
1/250 of maxmemory, so that all groups together exceed it by little.
"""

from collections.abc import Sequence

import structlog

from stream.keys import Shard
from stream.redis.cluster import ask_shards
from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.metrics import BACKLOG_BYTES, PAUSED

log = structlog.get_logger("backlog")

MEASURE = read_script(__file__, "measure_backlog.lua")

DEFAULT_SHARE = 4
"""The default limit is the server's maxmemory divided by this."""
FULL_SHARE = 250
"""While Redis is full, the limit is its maxmemory divided by this. Four groups at the limit add less than 10 %, even if
their copies double in size with the records of attempts."""
FULL_RATIO = 1.0
TIGHT_RATIO = 0.9
"""From this share of the server's maxmemory on, a group reads at most FEW live entries at a time."""


class Backlog:
    """The backlog of one group, as this worker measured it last."""

    def __init__(self, group: GroupRef, limit_bytes: int | None = None, shards: Sequence[Shard] = ()) -> None:
        self._server = group.server
        self._group = group.name
        self._shards = shards or [group.shard]
        self._limit_bytes = limit_bytes
        self._measure = group.server.register_script(MEASURE)
        self._sizes: dict[Shard, int] = {}
        self._memory: dict[Shard, tuple[float, int, int]] = {}
        self.bytes = 0
        self.is_full = False
        """Whether the backlog is at its limit: the group handles no live entries."""
        self.is_tight = False
        """Whether Redis is nearly out of memory: a large batch that fails would exceed the limit by far."""

    async def measure(self, *shards: Shard) -> None:
        """Measure the backlog of these shards, or of all. Raises RedisError.

        The others keep their last size, and so do shards whose node of a cluster is away.
        """
        answers = await ask_shards(self._server, shards or self._shards, self._measure_shard)
        self._memory = self._memory if shards else {}
        for shard, (size, used, maxmemory) in answers.items():
            self._sizes[shard] = size
            self._memory[shard] = (used / maxmemory if maxmemory else 0.0, used, maxmemory)
        self.bytes = sum(self._sizes.values())
        _, used, maxmemory = max(self._memory.values())  # of a cluster the fullest node
        limit = limit_of(self._limit_bytes, used, maxmemory)
        self.is_tight = maxmemory > 0 and used >= TIGHT_RATIO * maxmemory
        was_full, self.is_full = self.is_full, limit is not None and self.bytes >= limit
        BACKLOG_BYTES.labels(self._group).set(self.bytes)
        if self.is_full and not was_full:
            log.warning(
                "group.backlog_full", group=self._group, bytes=self.bytes, limit=limit, what=self.not_ready_reason
            )
        elif was_full and not self.is_full:
            log.info("group.backlog_shrunk", group=self._group, bytes=self.bytes)
        if self.is_full != was_full:
            PAUSED.labels(self._group, "backlog").set(self.is_full)

    async def _measure_shard(self, shard: Shard) -> Sequence[int]:
        keys = [shard.delayed(self._group), shard.retry(self._group), shard.dead(self._group)]
        return [int(number) for number in await self._measure(keys=keys)]

    @property
    def not_ready_reason(self) -> str | None:
        """Why the group handles no live entries, with the next step; None if it does."""
        if not self.is_full:
            return None
        return (
            f"group {self._group} handles retries only: its delayed retries and dead letters take {self.bytes} bytes; "
            "replay or discard dead letters, raise ACKSTREAM_BACKLOG_BYTES, or give Redis more memory"
        )


def limit_of(configured: int | None, used: int, maxmemory: int) -> int | None:
    """Return the limit in bytes; None with neither a setting nor a maxmemory."""
    limits = [] if configured is None else [configured]
    if maxmemory:
        limits += [] if limits else [maxmemory // DEFAULT_SHARE]
        if used >= FULL_RATIO * maxmemory:
            limits.append(maxmemory // FULL_SHARE)
    return min(limits, default=None)
