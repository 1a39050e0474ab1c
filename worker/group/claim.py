"""Claims the entries of dead consumers, a limited number at a time.

One script checks that the consumer's heartbeat has not moved since, claims the entries, and counts the claim of each
(worker.group.poison). So the loss of a reply loses no count.
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

    async def claim(self, limit: int) -> dict[Source, RawEntries]:
        """Claim up to ``limit`` entries, at most MOST_CLAIMED, of one stream from one dead consumer. Empty without any.

        Raises RedisError.
        """
        while (dead := self._heartbeat.find_dead()) is not None:
            name, counter = dead
            args: list[str | bytes | int] = [self._group, self._heartbeat.consumer, name, counter]
            args += [min(limit, MOST_CLAIMED), KEPT_SECONDS * 1000, *self._streams]
            reply: Any = await self._claim(keys=self._keys, args=args)
            if reply:
                place, entries, counts = reply
                source = list(self._streams)[place]
                self._poison.note_claim(source, [entry_id for entry_id, _ in entries], list(map(int, counts)))
                if not entries:  # deleted while they were pending: XCLAIM has dropped them
                    continue
                log.warning(
                    "heartbeat.claimed", group=self._group, dead=_text(name), source=source, entries=len(entries)
                )
                CLAIMED.labels(self._group).inc(len(entries))
                return {source: entries}
            if reply is not None:
                log.info("heartbeat.removed", group=self._group, consumer=_text(name))
            self._heartbeat.forget_dead(name)
        return {}


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")  # a person may have read with any name
