"""Settling: ends an entry for a group. It is the last step of every batch.

An ack is one XACK, or one script that also marks the handled events. Entries of the retry and the replay stream are
deleted as well. Delaying and dead-lettering are one script: it writes the copy only if XACK says that it ended the
entry, so a late or a repeated settlement changes nothing, there is no copy without an ack and no ack without a copy.

A full server runs all of them: each ends an entry that retention can then trim, and the bytes of the copies have a
limit (worker.dispatch.backlog).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.settle.copies import Copy
from worker.settle.dedup import ACK_AND_MARK, DedupWindow
from worker.settle.invalid import InvalidRecord, RecordLimits, UnverifiedPayload
from worker.sources import Source
from worker.timing import TIMING

IDS_AT_ONCE = 1000  # Lua unpacks no more than 8,000 values
COPIES_AT_ONCE = 250

ACK_COPIES = read_script(__file__, "ack_copies.lua")
COPY = read_script(__file__, "delay_or_dead_letter.lua")
SUCCEEDED = read_script(__file__, "note_success.lua")


@dataclass(frozen=True, slots=True)
class WrittenCopies:
    """The copies that a settlement has written; entries that somebody else had settled have none."""

    delayed: Sequence[Copy]
    dead: Sequence[Copy]


class Settler:
    """Settles entries of one group. Every method raises RedisError; then it is unknown which of them are settled."""

    def __init__(
        self,
        group: GroupRef,
        memory: DedupWindow | None = None,
        record_limits: RecordLimits | None = None,
        give_up_seconds: float = TIMING.give_up,
    ) -> None:
        self._server = group.server
        self._memory = memory
        self._marks = group.handled
        self._group = group.name
        self._give_up_ms = round(give_up_seconds * 1000)
        self._streams = group.streams
        self._copies = [group.delayed, group.dead, group.succeeded]
        self._ack_copies = group.server.register_script(ACK_COPIES)
        self._ack_marked = group.server.register_script(ACK_AND_MARK)
        self._copy = group.server.register_script(COPY)
        self._succeeded = group.server.register_script(SUCCEEDED)
        self._invalid = InvalidRecord(group.server, group.shard, record_limits)

    async def ack(self, source: Source, entry_ids: Sequence[bytes], marks: Sequence[bytes] = ()) -> None:
        """End these entries, and mark the events that were handled with them if the group remembers them."""
        stream = self._streams[source]
        if self._memory is not None and marks:
            await self._ack_and_mark(self._memory, source, entry_ids, marks)
        elif source is Source.LIVE:
            await self._server.xack(stream, self._group, *entry_ids)
        else:
            for start in range(0, len(entry_ids), IDS_AT_ONCE):
                await self._ack_copies(keys=[stream], args=[self._group, *entry_ids[start : start + IDS_AT_ONCE]])

    async def _ack_and_mark(
        self, memory: DedupWindow, source: Source, entry_ids: Sequence[bytes], marks: Sequence[bytes]
    ) -> None:
        kept = round(memory.seconds * 1000), memory.entries
        for start in range(0, len(entry_ids), IDS_AT_ONCE):
            ids, some = entry_ids[start : start + IDS_AT_ONCE], marks[start : start + IDS_AT_ONCE]
            if not some:
                await self.ack(source, ids)
                continue
            args: list[bytes | str | int] = [self._group, int(source is not Source.LIVE), *kept, b"".join(some), *ids]
            await self._ack_marked(keys=[self._streams[source], self._marks], args=args)

    async def copy(
        self, source: Source, copies: Sequence[Copy], succeeded_seconds_ago: float | None = None
    ) -> WrittenCopies:
        """Delay or dead-letter these entries.

        ``succeeded_seconds_ago`` is when this worker's latest call that succeeded began, None if there was none.
        """
        delayed: list[Copy] = []
        dead: list[Copy] = []
        ago = "" if succeeded_seconds_ago is None else round(succeeded_seconds_ago * 1000)
        own: list[bytes | str | int] = [self._group, int(source is not Source.LIVE), ago, self._give_up_ms]
        for start in range(0, len(copies), COPIES_AT_ONCE):
            some = copies[start : start + COPIES_AT_ONCE]
            args = own + [argument for copy in some for argument in copy.arguments]
            outcomes: Any = await self._copy(keys=[self._streams[source], *self._copies], args=args)
            for copy, outcome in zip(some, outcomes, strict=True):
                if outcome:
                    (dead if outcome == 2 else delayed).append(copy)  # noqa: PLR2004 - as the script says
        return WrittenCopies(delayed, dead)

    async def record(self, source: Source, entries: Sequence[UnverifiedPayload]) -> None:
        """End entries with an invalid payload that no signature proves: each is recorded once for all groups."""
        stream = self._streams[source]
        await self._invalid.record(stream, self._group, entries, are_copies=source is not Source.LIVE)

    async def note_success(self, seconds_ago: float | None) -> None:
        """Note when the latest call of this worker that succeeded began, so that the others' events can be judged."""
        if seconds_ago is not None:
            await self._succeeded(keys=self._copies[2:], args=[round(seconds_ago * 1000)])
