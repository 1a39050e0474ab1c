"""Claims: moves the entries of a dead consumer to this one, a bounded share at a time.

One script looks whether the consumer is still as dead as it was observed, moves the entries, and counts the claim for
each of them (worker.group.poison). So a reply that is lost loses no count.
"""

from typing import Any

import structlog

from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat, RawEntries
from worker.group.poison import KEPT_SECONDS, PoisonTracker
from worker.metrics import CLAIMED
from worker.sources import Source

log = structlog.get_logger("claim")

MOST_CLAIMED = 250  # of 128 KiB each they make a batch of 32 MiB

CLAIM = read_script(__file__, "claim.lua")


class Claimer:
    """Claims entries of the dead consumers of one group."""

    def __init__(self, group: GroupRef, heartbeat: Heartbeat, poison: PoisonTracker) -> None:
        self._group = group.name
        self._heartbeat = heartbeat
        self._poison = poison
        self._streams = group.streams
        self._keys = [group.alive, group.poison, *self._streams.values()]
        self._claim = group.server.register_script(CLAIM)

    async def claim(self, most: int) -> dict[Source, RawEntries]:
        """Claim at most ``most`` entries, and MOST_CLAIMED, of one stream from one dead consumer; empty without any.

        Raises RedisError.
        """
        while (dead := self._heartbeat.find_dead()) is not None:
            name, counter = dead
            args: list[str | bytes | int] = [self._group, self._heartbeat.consumer, name, counter]
            args += [min(most, MOST_CLAIMED), KEPT_SECONDS * 1000, *self._streams]
            taken: Any = await self._claim(keys=self._keys, args=args)
            if taken:
                place, entries, counts = taken
                source = list(self._streams)[place]
                self._poison.note_claim(source, [entry_id for entry_id, _ in entries], list(map(int, counts)))
                if not entries:  # deleted while they were pending: XCLAIM has dropped them
                    continue
                log.warning(
                    "heartbeat.claimed", group=self._group, dead=name.decode(), source=source, entries=len(entries)
                )
                CLAIMED.labels(self._group).inc(len(entries))
                return {source: entries}
            if taken is not None:
                log.info("heartbeat.removed", group=self._group, consumer=name.decode())
            self._heartbeat.forget_dead(name)
        return {}
