"""Settling: what ends an entry for a group. It is the last step of every batch.

To ack is one XACK, or one script that also remembers what was handled; a full server takes both. What was read from the
retry or the replay stream is deleted as well. To park or to bury is one script: only where XACK says that it ended the
entry is the copy written, so a late or a repeated settling changes nothing, there is no copy without an ack and no ack
without a copy. A full server refuses the script whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from redis.asyncio import Redis

from stream.keys import Shard
from worker.consumer.fetch_plan import Source, streams
from worker.settle.dedup import ACK_AND_MARK, Memory
from worker.settle.invalid import Invalid, InvalidRecord, RecordLimits

IDS_AT_ONCE = 1000  # Lua unpacks no more than 8,000 values
COPIES_AT_ONCE = 250
MOST_FIELDS = 1000

# KEYS: stream. ARGV: group, then ids.
ACK_COPIES = """#!lua flags=allow-oom
redis.call('XACK', KEYS[1], unpack(ARGV))
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
"""

# KEYS: stream, parked, dead. ARGV: group, '1' if the stream's entries are copies; then for each entry its id, the delay
# in ms or '' for a dead letter, a number, and so many values: the copy's fields.
# The first two calls fail, with nothing written, if a key is of another type.
COPY = """#!lua
redis.call('ZCARD', KEYS[2])
redis.call('XLEN', KEYS[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local i, written = 3, 0
while i <= #ARGV do
  local id, delay, n = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  if redis.call('XACK', KEYS[1], ARGV[1], id) == 1 then
    if delay == '' then
      redis.call('XADD', KEYS[3], '*', unpack(ARGV, i + 3, i + 2 + n))
    else
      redis.call('ZADD', KEYS[2], now + tonumber(delay), cmsgpack.pack({unpack(ARGV, i + 3, i + 2 + n)}))
    end
    if ARGV[2] == '1' then redis.call('XDEL', KEYS[1], id) end
    written = written + 1
  end
  i = i + 3 + n
end
return written
"""


@dataclass(frozen=True, slots=True)
class Copy:
    """An entry that is not handled: its id in Redis's form, the copy's fields, and the delay until its next attempt.

    A dead letter has no delay.
    """

    entry_id: bytes
    fields: Mapping[bytes, bytes]
    delay_seconds: float | None

    @classmethod
    def of(
        cls,
        entry_id: bytes,
        fields: Mapping[bytes, bytes],
        *,
        origin: str,
        attempt: int,
        error: str,
        delay_seconds: float | None = None,
    ) -> "Copy":
        """Make the copy of an entry, with where it came from, the attempts it has had and why the last one failed."""
        kept = fields if len(fields) <= MOST_FIELDS else {b"payload": _in_one(fields)}
        noted = {**kept, b"origin": origin.encode(), b"attempt": b"%d" % attempt, b"error": error.encode()}
        return cls(entry_id, noted, delay_seconds)

    @property
    def reason(self) -> str:
        """The first word of its error."""
        return self.fields[b"error"].partition(b": ")[0].decode()

    @property
    def arguments(self) -> list[bytes | str | int]:
        """What the script takes."""
        delay_ms = "" if self.delay_seconds is None else round(self.delay_seconds * 1000)
        return [self.entry_id, delay_ms, 2 * len(self.fields), *chain.from_iterable(self.fields.items())]


class Settler:
    """Settles entries of one group. Every method raises RedisError; then it is unknown which of them are ended."""

    def __init__(
        self,
        server: Redis,
        shard: Shard,
        group: str,
        memory: Memory | None = None,
        record_limits: RecordLimits | None = None,
    ) -> None:
        self._server = server
        self._memory = memory
        self._handled = shard.handled(group)
        self._group = group
        self._streams = streams(shard, group)
        self._copies = [shard.parked(group), shard.dead(group)]
        self._ack_copies = server.register_script(ACK_COPIES)
        self._ack_marked = server.register_script(ACK_AND_MARK)
        self._copy = server.register_script(COPY)
        self._invalid = InvalidRecord(server, shard, record_limits)

    async def ack(self, source: Source, entry_ids: Sequence[bytes], marks: Sequence[bytes] = ()) -> None:
        """End these entries, and remember what was handled with them if the group does. A full server takes it."""
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
            await self._ack_marked(keys=[self._streams[source], *self._handled], args=args)

    async def copy(self, source: Source, copies: Sequence[Copy]) -> int:
        """Park or bury these entries; returns how many were still pending. Raises OutOfMemoryError on a full server."""
        written = 0
        for start in range(0, len(copies), COPIES_AT_ONCE):
            arguments: list[bytes | str | int] = [self._group, "0" if source is Source.LIVE else "1"]
            for copy in copies[start : start + COPIES_AT_ONCE]:
                arguments += copy.arguments
            written += int(await self._copy(keys=[self._streams[source], *self._copies], args=arguments))
        return written

    async def record(self, source: Source, entries: Sequence[Invalid]) -> None:
        """End entries with an invalid payload that no signature proves: each is recorded once for all groups."""
        stream = self._streams[source]
        await self._invalid.record(stream, self._group, entries, are_copies=source is not Source.LIVE)


def _in_one(fields: Mapping[bytes, bytes]) -> bytes:
    """Write more fields than a script can take as one text, with what is not ASCII escaped."""
    return b"\n".join(b"%a=%a" % (name, value) for name, value in fields.items())
