"""Settles entries of a group: acks, delays, dead-letters or records them, as the last step of each batch.

An ack is one XACK, or one script that also adds the dedup marks. Entries of the retry and replay streams are deleted
too. One script delays and dead-letters: it writes the copy only if its XACK removed the pending entry. So a late or
repeated settlement changes nothing, and there is never a copy without an ack or an ack without a copy.

These commands also run while Redis is out of memory: each lets retention trim an entry, and the bytes of the copies
have a limit (worker.dispatch.backlog).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stream.layout import Layout
from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.order.fence import Fence
from worker.settle.copies import Copy
from worker.settle.dedup import ACK_AND_MARK, DedupWindow, MarkPlaces
from worker.settle.invalid import InvalidRecord, RecordLimits, UnverifiedPayload
from worker.sources import Source
from worker.timing import TIMING

IDS_AT_ONCE = 1000  # Lua unpacks no more than 8,000 values
COPIES_AT_ONCE = 250

ACK = read_script(__file__, "ack.lua")
ACK_COPIES = read_script(__file__, "ack_copies.lua")
COPY = read_script(__file__, "delay_or_dead_letter.lua")
SUCCEEDED = read_script(__file__, "note_success.lua")


@dataclass(frozen=True, slots=True)
class WrittenCopies:
    """The copies that a settlement wrote. Entries that another worker settled before have none."""

    delayed: Sequence[Copy]
    dead: Sequence[Copy]


class Settler:
    """Settles entries of one group. Each method raises RedisError, after which it is unknown which are settled.

    With a ``fence``, in order mode, each also raises OwnershipLost, after which nothing is settled.
    """

    def __init__(
        self,
        group: GroupRef,
        window: DedupWindow | None = None,
        record_limits: RecordLimits | None = None,
        give_up_seconds: float = TIMING.give_up,
        layout: Callable[[], Layout] = Layout,
        clock: Callable[[], float] = time.monotonic,
        fence: Fence | None = None,
    ) -> None:
        register: Callable[[str], Any] = group.server.register_script if fence is None else fence.register
        self._server = group.server
        self._shard = group.shard
        self._places = None if window is None else MarkPlaces(group, window, layout)
        self._group = group.name
        self._give_up_ms = round(give_up_seconds * 1000)
        self._streams = group.streams
        self._copies = [group.delayed, group.dead, group.succeeded]
        self._ack = None if fence is None else register(ACK)
        self._ack_copies = register(ACK_COPIES)
        self._ack_marked = register(ACK_AND_MARK)
        self._mark = group.server.register_script(ACK_AND_MARK)
        self._copy = register(COPY)
        self._succeeded = group.server.register_script(SUCCEEDED)
        self._clock = clock
        self._offset_ms: float | None = None
        """The server's clock minus this worker's, or a little less; None until a reply has the server's time."""
        self._invalid = InvalidRecord(group.server, group.shard, record_limits, register)

    async def ack(self, source: Source, entry_ids: Sequence[bytes], marks: Sequence[bytes] = ()) -> None:
        """Ack these entries and, if the group deduplicates, add the marks of their events."""
        stream = self._streams[source]
        if self._places is not None and marks:
            await self._ack_and_mark(self._places, source, entry_ids, marks)
        elif source is Source.LIVE and self._ack is None:
            await self._server.xack(stream, self._group, *entry_ids)
        else:
            ack = self._ack if source is Source.LIVE and self._ack else self._ack_copies
            for start in range(0, len(entry_ids), IDS_AT_ONCE):
                await ack(keys=[stream], args=[self._group, *entry_ids[start : start + IDS_AT_ONCE]])

    async def _ack_and_mark(
        self, places: MarkPlaces, source: Source, entry_ids: Sequence[bytes], marks: Sequence[bytes]
    ) -> None:
        by_shard = dict(places.split(marks))
        own = by_shard.pop(self._shard.number, [])
        limits = places.limits
        for number, others in by_shard.items():
            for start in range(0, len(others), IDS_AT_ONCE):
                batch = b"".join(others[start : start + IDS_AT_ONCE])
                await self._mark(keys=places.keys(number), args=[self._group, 0, *limits, batch])
        _, key = places.keys(self._shard.number)
        for start in range(0, len(entry_ids), IDS_AT_ONCE):
            ids, batch = entry_ids[start : start + IDS_AT_ONCE], b"".join(own[start : start + IDS_AT_ONCE])
            if not batch:
                await self.ack(source, ids)
                continue
            args: list[Any] = [self._group, int(source is not Source.LIVE), *limits, batch, *ids]
            await self._ack_marked(keys=[self._streams[source], key], args=args)

    async def copy(self, source: Source, copies: Sequence[Copy], latest_success: float | None = None) -> WrittenCopies:
        """Delay or dead-letter these entries.

        ``latest_success`` is the start of this worker's latest successful call, by its clock; None without one.
        """
        delayed: list[Copy] = []
        dead: list[Copy] = []
        succeeded = self._to_server_ms(latest_success)
        common: list[bytes | str | int] = [self._group, int(source is not Source.LIVE), succeeded, self._give_up_ms]
        for start in range(0, len(copies), COPIES_AT_ONCE):
            batch = copies[start : start + COPIES_AT_ONCE]
            args = common + [argument for copy in batch for argument in copy.arguments]
            outcomes: Any = await self._copy(keys=[self._streams[source], *self._copies], args=args)
            for copy, outcome in zip(batch, outcomes, strict=True):
                if outcome:
                    (dead if outcome == 2 else delayed).append(copy)  # noqa: PLR2004 - the reply of the script
        return WrittenCopies(delayed, dead)

    async def record(self, source: Source, entries: Sequence[UnverifiedPayload]) -> None:
        """Record and ack unverified invalid payloads. The record has each once, for all groups."""
        stream = self._streams[source]
        await self._invalid.record(stream, self._group, entries, are_copies=source is not Source.LIVE)

    async def note_success(self, latest_success: float | None) -> None:
        """Publish the start of this worker's latest successful call: it shows that the target is up.

        Until the first reply the start is not published, because the server's time is not known.
        """
        server_ms: Any = await self._succeeded(keys=self._copies[2:], args=[self._to_server_ms(latest_success)])
        self._offset_ms = server_ms - 1000 * self._clock()

    def _to_server_ms(self, at: float | None) -> int | str:
        """Return a time of this worker as the server's, never later than it was; '' if one of both is not known.

        An age that the server subtracts from its time would grow too small while this process or the network pauses. A
        call before the target went away would then look like one after it.
        """
        if at is None or self._offset_ms is None:
            return ""
        return math.floor(1000 * at + self._offset_ms)
