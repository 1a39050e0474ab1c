"""Invalid payloads that no signature proves: list and find them, parse them again, drop them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from console.format import format_receipt_time, mask_numbers, to_text
from stream.entry import Entry, EntryId, InvalidEntry
from stream.keys import Shard
from worker.events.event import InvalidStatus
from worker.events.vonage import parse
from worker.settle.invalid import InvalidRecord

PAGE = 250


@dataclass(frozen=True, slots=True)
class RecordedPayload:
    """One payload of the record. ``fields`` are the entry's, with ``origin`` and ``error``."""

    id: EntryId
    fields: Mapping[bytes, bytes]

    def summary(self) -> dict[str, Any]:
        """Return the line of a listing."""
        return {
            "id": str(self.id),
            "entry": self._text(b"origin"),
            "error": mask_numbers(self._text(b"error").partition(": ")[2]),
            "signature": self._text(b"signature"),
            "bytes": len(self.fields.get(b"payload", b"")),
            "received_at": format_receipt_time(self.fields),
        }

    def show(self, *, reveal: bool) -> dict[str, Any]:
        """Return everything that came; the payload and the query only if they are to be revealed."""
        shown = {**self.summary(), "content_type": mask_numbers(self._text(b"content_type"))}
        if reveal:
            shown |= {"payload": self._text(b"payload"), "query": self._text(b"query") or None}
        return shown

    def entry(self) -> Entry | None:
        """Return the entry to give to the groups again; None if this version takes its payload for invalid too."""
        fields = {name: value for name, value in self.fields.items() if name not in (b"error", b"attempt", b"replay")}
        try:
            entry = Entry.from_fields(fields)
            parse(entry, entry.origin or str(self.id))
        except (InvalidEntry, InvalidStatus):
            return None
        return entry

    def _text(self, name: bytes) -> str:
        return to_text(self.fields.get(name, b""))


async def list_invalid(server: Redis, shard: Shard, most: int) -> list[RecordedPayload]:
    """Return at most ``most`` payloads, the newest first. Raises RedisError."""
    found: Any = await server.xrevrange(shard.invalid, count=most)
    return [RecordedPayload(EntryId.from_redis(shard.number, record_id), fields) for record_id, fields in found]


async def find_invalid(server: Redis, shard: Shard, wanted: Sequence[EntryId]) -> list[RecordedPayload]:
    """Return those of these payloads that are there. Raises RedisError."""
    found = []
    for one in wanted:
        entries: Any = await server.xrange(shard.invalid, one.redis, one.redis)
        found += [RecordedPayload(one, fields) for _, fields in entries]
    return found


async def _page(server: Redis, key: str, start: str, end: bytes) -> Any:
    return await server.xrange(key, start, end, count=PAGE)


async def discard_invalid(server: Redis, shard: Shard, wanted: Sequence[EntryId] | None) -> int:
    """Drop these payloads, or all that are there by now, for good; return how many. Raises RedisError."""
    record = InvalidRecord(server, shard)
    return sum([await record.discard(one.id) async for one in _chosen(server, shard, wanted)])


async def replay_invalid(server: Redis, shard: Shard, wanted: Sequence[EntryId] | None) -> tuple[int, int]:
    """Parse these payloads, or all that are there by now, again, and append what is valid now to the stream.

    Returns how many were appended, and how many are still invalid: these stay. Raises RedisError.
    """
    record = InvalidRecord(server, shard)
    replayed = left = 0
    async for one in _chosen(server, shard, wanted):
        entry = one.entry()
        if entry is None:
            left += 1
        elif await record.replay(one.id, entry):
            replayed += 1
    return replayed, left


async def _chosen(server: Redis, shard: Shard, wanted: Sequence[EntryId] | None) -> AsyncIterator[RecordedPayload]:
    if wanted is not None:
        for payload in await find_invalid(server, shard, wanted):
            yield payload
        return
    newest: Any = await server.xrevrange(shard.invalid, count=1)
    start = "-"
    while newest and (page := await _page(server, shard.invalid, start, newest[0][0])):
        for record_id, fields in page:
            yield RecordedPayload(EntryId.from_redis(shard.number, record_id), fields)
        start = f"({page[-1][0].decode()}"


async def count_invalid(server: Redis, shard: Shard) -> Mapping[str, int]:
    """Return how many payloads the record holds, and how many it took and lost so far. Raises RedisError."""
    totals: Any = await server.hgetall(shard.invalid_totals)
    names = ("bytes", "recorded", "dropped", "discarded", "replayed")
    return {"entries": await server.xlen(shard.invalid)} | {name: int(totals.get(name.encode(), 0)) for name in names}
