"""List, replay and discard the record of invalid payloads that no signature verifies."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from console.format import format_receipt_time, to_text
from stream.entry import Entry, EntryId, InvalidEntry, read_ms
from stream.keys import Shard
from worker.events.event import InvalidStatus, mask_numbers
from worker.events.vonage import parse
from worker.settle.invalid import InvalidRecord

PAGE = 250


@dataclass(frozen=True, slots=True)
class RecordedPayload:
    """One recorded payload. ``fields`` are the entry's fields with ``origin`` and ``error``."""

    id: EntryId
    fields: Mapping[bytes, bytes]

    def summary(self) -> dict[str, Any]:
        """Return the row of a listing."""
        return {
            "id": str(self.id),
            "entry": self._text(b"origin"),
            "error": mask_numbers(self._text(b"error").partition(": ")[2]),
            "signature": self._text(b"signature"),
            "bytes": len(self.fields.get(b"payload", b"")),
            "received_at": format_receipt_time(self.fields),
        }

    def show(self, *, reveal: bool) -> dict[str, Any]:
        """Return all fields; payload and query only with ``reveal``."""
        details = {**self.summary(), "content_type": mask_numbers(self._text(b"content_type"))}
        if reveal:
            details |= {"payload": self._text(b"payload"), "query": self._text(b"query") or None}
        return details

    def entry(self) -> Entry | None:
        """Return the entry to replay to all groups; None if its payload is still invalid."""
        fields = {name: value for name, value in self.fields.items() if name not in (b"error", b"attempt", b"replay")}
        try:
            entry = Entry.from_fields(fields)
            parse(entry, entry.origin or str(self.id))
        except (InvalidEntry, InvalidStatus):
            return None
        return entry

    def _text(self, name: bytes) -> str:
        return to_text(self.fields.get(name, b""))


async def list_invalid(server: Redis, shards: Sequence[Shard], limit: int) -> list[RecordedPayload]:
    """Return at most ``limit`` payloads, the newest first. Raises RedisError."""
    payloads: list[RecordedPayload] = []
    for shard in shards:
        records: Any = await server.xrevrange(shard.invalid, count=limit)
        payloads += [RecordedPayload(EntryId.from_redis(shard.number, record), fields) for record, fields in records]
    return sorted(payloads, key=lambda payload: (payload.id.ms, payload.id.seq), reverse=True)[:limit]


async def find_invalid(server: Redis, shard: Shard, ids: Sequence[EntryId]) -> list[RecordedPayload]:
    """Return the existing payloads of the shard among these ids. Raises RedisError."""
    payloads = []
    for record_id in [record_id for record_id in ids if record_id.shard == shard.number]:
        records: Any = await server.xrange(shard.invalid, record_id.redis, record_id.redis)
        payloads += [RecordedPayload(record_id, fields) for _, fields in records]
    return payloads


async def _page(server: Redis, key: str, start: str, end: bytes) -> Any:
    return await server.xrange(key, start, end, count=PAGE)


async def discard_invalid(server: Redis, shard: Shard, ids: Sequence[EntryId] | None) -> int:
    """Drop the payloads with these ids, or all without ids; return their number. Raises RedisError."""
    record = InvalidRecord(server, shard)
    return sum([await record.discard(payload.id) async for payload in _select(server, shard, ids)])


async def replay_invalid(server: Redis, shard: Shard, ids: Sequence[EntryId] | None) -> tuple[int, int]:
    """Parse the payloads with these ids, or without ids all, again; append the valid ones to the stream.

    Returns the numbers of appended payloads and of those that are still invalid; these stay in the record. Raises
    RedisError.
    """
    record = InvalidRecord(server, shard)
    replayed = still_invalid = 0
    async for payload in _select(server, shard, ids):
        entry = payload.entry()
        if entry is None:
            still_invalid += 1
        elif await record.replay(payload.id, entry):
            replayed += 1
    return replayed, still_invalid


async def _select(server: Redis, shard: Shard, ids: Sequence[EntryId] | None) -> AsyncIterator[RecordedPayload]:
    if ids is not None:
        for payload in await find_invalid(server, shard, ids):
            yield payload
        return
    newest: Any = await server.xrevrange(shard.invalid, count=1)
    start = "-"
    while newest and (page := await _page(server, shard.invalid, start, newest[0][0])):
        for record_id, fields in page:
            yield RecordedPayload(EntryId.from_redis(shard.number, record_id), fields)
        start = f"({page[-1][0].decode()}"


async def count_invalid(server: Redis, shard: Shard) -> Mapping[str, int]:
    """Count the payloads in the record, and those recorded, dropped, discarded or replayed. Raises RedisError."""
    totals: Any = await server.hgetall(shard.invalid_totals)
    names = ("bytes", "recorded", "dropped", "discarded", "replayed")
    counts = {name: read_ms(totals.get(name.encode(), b"")) or 0 for name in names}
    return {"entries": await server.xlen(shard.invalid)} | counts
