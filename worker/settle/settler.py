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

from redis.asyncio import Redis

from stream.keys import Shard
from worker.settle.copies import Copy
from worker.settle.dedup import ACK_AND_MARK, Memory
from worker.settle.invalid import Invalid, InvalidRecord, RecordLimits
from worker.sources import Source, streams
from worker.timing import TIMING

IDS_AT_ONCE = 1000  # Lua unpacks no more than 8,000 values
COPIES_AT_ONCE = 250

# KEYS: stream. ARGV: group, then ids.
ACK_COPIES = """#!lua flags=allow-oom
redis.call('XACK', KEYS[1], unpack(ARGV))
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
"""

# KEYS: stream, delayed, dead, succeeded. ARGV: group, '1' if the stream's entries are copies, ms since the latest call
# that succeeded began or '', ms after which an event is given up; then for each entry its id, the delay in ms or '' for
# a dead letter, attempt and error if it is to be dead-lettered after its last attempt or '', when its previous and its
# first attempt failed or '', ms since this attempt began, a number, and so many values: the copy's fields.
# Returns for each entry 0 (it had been settled), 1 (delayed) or 2 (dead letter).
# The first calls fail, with nothing written, if a key is of another type. A success of the future was noted before the
# server's clock stepped back, and proves nothing.
COPY = """#!lua flags=allow-oom
redis.call('ZCARD', KEYS[2])
redis.call('XLEN', KEYS[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local succeeded = tonumber(redis.call('GET', KEYS[4]) or '-1')
if succeeded > now then succeeded = -1 end
if ARGV[3] ~= '' and now - ARGV[3] > succeeded then
  succeeded = now - ARGV[3]
  redis.call('SET', KEYS[4], string.format('%.0f', succeeded))
end
local i, outcomes = 5, {}
while i <= #ARGV do
  local id, delay, attempt, error = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local failed, first, began, n = tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5]), ARGV[i + 6], tonumber(ARGV[i + 7])
  local outcome = 0
  if redis.call('XACK', KEYS[1], ARGV[1], id) == 1 then
    local copy = {unpack(ARGV, i + 8, i + 7 + n)}
    outcome = delay == '' and 2 or 1
    local at_fault = succeeded > (failed or now - began) or now - (first or now) >= tonumber(ARGV[4])
    if attempt ~= '' and at_fault then
      outcome = 2
      for k = 1, n, 2 do
        if copy[k] == 'attempt' then copy[k + 1] = attempt end
        if copy[k] == 'error' then copy[k + 1] = error end
      end
    end
    if outcome == 2 then
      redis.call('XADD', KEYS[3], '*', unpack(copy))
    else
      local moments = {'failed_ms', string.format('%.0f', now), 'first_failed_ms', string.format('%.0f', first or now)}
      for k = 1, 4 do copy[n + k] = moments[k] end
      redis.call('ZADD', KEYS[2], now + tonumber(delay), cmsgpack.pack(copy))
    end
    if ARGV[2] == '1' then redis.call('XDEL', KEYS[1], id) end
  end
  outcomes[#outcomes + 1] = outcome
  i = i + 8 + n
end
return outcomes
"""

# KEYS: succeeded. ARGV: ms since the latest call of a worker that succeeded began.
SUCCEEDED = """#!lua flags=allow-oom
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = tonumber(redis.call('GET', KEYS[1]) or '-1')
if now - ARGV[1] > known or known > now then redis.call('SET', KEYS[1], string.format('%.0f', now - ARGV[1])) end
"""


@dataclass(frozen=True, slots=True)
class Written:
    """The copies that a settlement has written; entries that somebody else had settled have none."""

    delayed: Sequence[Copy]
    dead: Sequence[Copy]


class Settler:
    """Settles entries of one group. Every method raises RedisError; then it is unknown which of them are settled."""

    def __init__(
        self,
        server: Redis,
        shard: Shard,
        group: str,
        memory: Memory | None = None,
        record_limits: RecordLimits | None = None,
        give_up_seconds: float = TIMING.give_up,
    ) -> None:
        self._server = server
        self._memory = memory
        self._marks = shard.handled(group)
        self._group = group
        self._give_up_ms = round(give_up_seconds * 1000)
        self._streams = streams(shard, group)
        self._copies = [shard.delayed(group), shard.dead(group), shard.succeeded(group)]
        self._ack_copies = server.register_script(ACK_COPIES)
        self._ack_marked = server.register_script(ACK_AND_MARK)
        self._copy = server.register_script(COPY)
        self._succeeded = server.register_script(SUCCEEDED)
        self._invalid = InvalidRecord(server, shard, record_limits)

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
        self, memory: Memory, source: Source, entry_ids: Sequence[bytes], marks: Sequence[bytes]
    ) -> None:
        kept = round(memory.seconds * 1000), memory.entries
        for start in range(0, len(entry_ids), IDS_AT_ONCE):
            ids, some = entry_ids[start : start + IDS_AT_ONCE], marks[start : start + IDS_AT_ONCE]
            if not some:
                await self.ack(source, ids)
                continue
            args: list[bytes | str | int] = [self._group, int(source is not Source.LIVE), *kept, b"".join(some), *ids]
            await self._ack_marked(keys=[self._streams[source], self._marks], args=args)

    async def copy(self, source: Source, copies: Sequence[Copy], succeeded_seconds_ago: float | None = None) -> Written:
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
        return Written(delayed, dead)

    async def record(self, source: Source, entries: Sequence[Invalid]) -> None:
        """End entries with an invalid payload that no signature proves: each is recorded once for all groups."""
        stream = self._streams[source]
        await self._invalid.record(stream, self._group, entries, are_copies=source is not Source.LIVE)

    async def note_success(self, seconds_ago: float | None) -> None:
        """Note when the latest call of this worker that succeeded began, so that the others' events can be judged."""
        if seconds_ago is not None:
            await self._succeeded(keys=self._copies[2:], args=[round(seconds_ago * 1000)])
