"""Groups that hold entries back: they are told by name, never dropped. That is for `ackstream groups drop`."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis

from runtime.metrics import HELD_ENTRIES, HELD_SECONDS
from stream.keys import Shard
from worker.retention.ack_floor import Standing, Survey
from worker.retention.seldom import Seldom

log = structlog.get_logger("retention")

FORGOTTEN_SECONDS = 3600.0


class Held:
    """Tells which groups of a shard keep more than retention wants: at each look by metrics, once a minute by a log."""

    def __init__(self, server: Redis, shard: Shard, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._shard = shard
        self._seldom = Seldom(clock)
        self._counters: dict[str, Mapping[bytes, bytes]] = {}

    async def tell(self, survey: Survey, groups: Sequence[Standing]) -> None:
        """Tell of these groups, and of no others any more. Raises RedisError."""
        self.forget()
        for group in groups:
            entries, seconds = group.outstanding(survey.length), held_seconds(survey, group)
            HELD_ENTRIES.labels(group.name).set(entries)
            HELD_SECONDS.labels(group.name).set(seconds)
            if self._seldom.tells(group.name):
                log.warning(
                    "retention.held_back",
                    group=group.name,
                    entries=entries,
                    oldest_seconds=seconds,
                    stream_bytes=survey.stream_bytes,
                    forgotten=await self._forgotten(group),
                )

    def forget(self) -> None:
        """Tell of none any more."""
        HELD_ENTRIES.clear()
        HELD_SECONDS.clear()

    async def _forgotten(self, group: Standing) -> bool:
        """Whether nobody reads the group: no counter has moved since it was told last, and no consumer has come."""
        counters: Any = await self._server.hgetall(self._shard.alive(group.name))
        before = self._counters.get(group.name, dict.fromkeys(counters, b""))
        self._counters[group.name] = counters
        if any(before.get(name) != counter for name, counter in counters.items()):
            return False
        consumers: Any = await self._server.xinfo_consumers(self._shard.stream, group.name) if group.exists else []
        return all(consumer["idle"] >= FORGOTTEN_SECONDS * 1000 for consumer in consumers)


def held_seconds(survey: Survey, group: Standing) -> float:
    """Return the age of the oldest entry that the group needs."""
    oldest = max(group.floor, survey.first or group.floor)
    return round(max(survey.now_ms - oldest.ms, 0) / 1000, 3)
