"""The places in Redis: streams of entries and copies, delayed retries, and hashes with texts of people."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from console.privacy.in_flight import EntryRemover
from console.privacy.place import DataPlace, Pages, Unreachable
from console.privacy.places import KEYS
from console.privacy.selection import Record, Selection
from console.queries.quarantine import RefusedPayload, discard
from stream.entry import EntryId, fields_from_flat
from stream.keys import Shard
from stream.redis.cluster import at_key
from stream.redis.scripts import read_script
from worker.group.group_ref import GroupRef
from worker.replay.job import ENDED, Progress
from worker.replay.repository import PARTS
from worker.retention.pages import FIRST_PAGE_ENTRIES, next_page_size
from worker.settle.invalid import InvalidRecord

SCANNED_AT_ONCE = 250
SCAN_DELAYED = read_script(__file__, "scan_delayed.lua")
ERASED = "erased"

_GLOB = re.compile(r"([\[\]*?\\^-])")


class Entries:
    """One stream of entries or copies. ``server`` must return raw ranges (worker.retention.pages)."""

    def __init__(self, name: str, server: Redis, shard: Shard, key: str, remover: EntryRemover) -> None:
        self.name = name
        self.seen = 0
        self._server = server
        self._shard = shard
        self.key = key
        self._remover = remover
        self._after = ""

    async def find(self, selection: Selection) -> Pages:
        """Yield the entries of the selection up to the last one of this moment. Raises RedisError.

        While the selection is complete, a second call yields only entries that came since.
        """
        if not selection.is_complete:
            self._after = ""
        newest: Any = await self._server.xrevrange(self.key, count=1)
        if not newest:
            return
        count, entries, size = FIRST_PAGE_ENTRIES, 0, 0
        while page := await self._read_page(newest[0][0], count):
            self._after = page[-1][0].decode()
            self.seen += len(page)
            entries += len(page)
            size += sum(sum(map(len, flat)) for _, flat in page)
            count = next_page_size(entries, size)
            records = (self._record(entry_id, _fields(flat)) for entry_id, flat in page)
            yield [record for record in records if selection.has(record)]

    async def erase(self, records: Sequence[Record], _selection: Selection) -> Mapping[str, int]:
        """Remove the entries. Raises Unreachable for entries in flight, and RedisError."""
        if self.name == KEYS["invalid"].place:
            invalid = InvalidRecord(self._server, self._shard)
            return {self.name: sum([await invalid.discard(self._id(record.key)) for record in records])}
        if self.name == KEYS["quarantine"].place:
            refused = [RefusedPayload(self._id(record.key), record.fields) for record in records]
            return {self.name: len(await discard(self._server, self._shard, refused))}
        return {self.name: await self._remover.remove(self.key, [record.key for record in records])}

    async def _read_page(self, last: bytes, count: int) -> Any:
        return await self._server.xrange(self.key, f"({self._after}" if self._after else "-", last, count=count)

    def _record(self, entry_id: bytes, fields: dict[bytes, bytes]) -> Record:
        live = self.key == self._shard.stream
        origin = (
            f"{self._shard.number}/{entry_id.decode()}" if live else fields.get(b"origin", b"").decode(errors="replace")
        )
        return Record(entry_id, fields, origin)

    def _id(self, entry_id: bytes) -> EntryId:
        return EntryId.from_redis(self._shard.number, entry_id)


class Delayed:
    """The delayed retries of one group."""

    def __init__(self, server: Redis, key: str) -> None:
        self.name = str(KEYS["delayed"].place)
        self.seen = 0
        self._server = server
        self.key = key
        self._scan = server.register_script(SCAN_DELAYED)

    async def find(self, selection: Selection) -> Pages:
        """Yield the copies of the selection. Raises RedisError."""
        cursor = b"0"
        while True:
            cursor, *copies = await self._scan(keys=[self.key], args=[cursor, SCANNED_AT_ONCE])
            self.seen += len(copies)
            records = [self._record(packed, _fields(flat)) for packed, flat in copies]
            yield [record for record in records if selection.has(record)]
            if cursor == b"0":
                return

    async def erase(self, records: Sequence[Record], _selection: Selection) -> Mapping[str, int]:
        """Remove the copies. Raises RedisError."""
        return {self.name: int(await self._server.zrem(self.key, *(record.key for record in records)))}

    @staticmethod
    def _record(packed: bytes, fields: dict[bytes, bytes]) -> Record:
        return Record(packed, fields, fields.get(b"origin", b"").decode(errors="replace"))


class Pauses:
    """The reason that a person wrote for the pause of one group."""

    def __init__(self, server: Redis, key: str) -> None:
        self.name = str(KEYS["paused"].place)
        self.seen = 0
        self._server = server
        self.key = key

    async def find(self, selection: Selection) -> Pages:
        """Yield the pause if its reason belongs to the selection. Raises RedisError."""
        fields: Any = await self._server.hgetall(self.key)
        self.seen += 1
        record = Record(self.key, {b"note": fields.get(b"note", b"")})
        yield [record] if selection.has_text(_text(record.fields[b"note"])) else []

    async def erase(self, records: Sequence[Record], _selection: Selection) -> Mapping[str, int]:
        """Replace the reason; the group stays paused. Raises RedisError."""
        if await self._server.hexists(self.key, "note"):
            await self._server.hset(self.key, "note", ERASED)
        return {self.name: len(records)}


class ReplayJobs:
    """The replays of one group."""

    def __init__(self, server: Redis, shard: Shard, group: str) -> None:
        self.name = str(KEYS["replays"].place)
        self.seen = 0
        self._server = server
        self._shard = shard
        self.key = GroupRef(server, shard, group).replays

    async def find(self, selection: Selection) -> Pages:
        """Yield the replays whose filter or texts belong to the selection. Raises RedisError."""
        stored: Any = await self._server.hgetall(self.key)
        replays = Progress.all_from(self._shard.number, stored)
        self.seen += len(replays)
        yield [
            Record(progress, {b"replay": progress.replay.to_json(), b"why": _words_of(progress).encode()})
            for progress in replays
            if _is_of(progress, selection)
        ]

    async def erase(self, records: Sequence[Record], _selection: Selection) -> Mapping[str, int]:
        """Delete replays that have ended. Raises Unreachable for others, and RedisError."""
        ended = [record.key.replay.id for record in records if record.key.state in ENDED]
        for replay_id in ended:
            await self._server.hdel(self.key, replay_id, *(f"{replay_id}:{part}" for part in PARTS))
        if others := [record.key.replay.id for record in records if record.key.state not in ENDED]:
            raise Unreachable(
                f"replay {', '.join(others)} names it and has not ended: wait for its end, or cancel it", len(ended)
            )
        return {self.name: len(ended)}


RedisPlace = Entries | Delayed | Pauses | ReplayJobs


def _words_of(progress: Progress) -> str:
    return f"{progress.started.why}\n{progress.moved.why}\n{progress.error}"


def _is_of(progress: Progress, selection: Selection) -> bool:
    criteria = progress.replay.selection
    return (
        not selection.messages.isdisjoint(criteria.messages)
        or not selection.entries.isdisjoint(criteria.ids)
        or selection.has_text(_words_of(progress))
    )


async def find_keys(server: Redis, shard: Shard) -> list[str]:
    """Return all keys of a shard, also those of dropped groups. Raises RedisError."""
    prefix = shard.stream
    node = at_key(server, prefix)
    keys: AsyncIterator[bytes] = node.scan_iter(match=_GLOB.sub(r"\\\1", prefix) + "*", count=1000)
    names = {key.decode(errors="surrogateescape") async for key in keys}
    return sorted(name for name in names if name == prefix or name.startswith(f"{prefix}:"))


def kind_of(shard: Shard, key: str) -> tuple[str, str] | None:
    """Return the kind of a key, as a name of `KEYS`, and its group; None for a key that Ackstream does not write."""
    for kind in KEYS:
        member = getattr(shard, kind)
        if member == key:
            return kind, ""
    for kind in KEYS:
        member = getattr(shard, kind)
        if callable(member):
            prefix = str(member("") if kind != "copying" else member("", "")[:-1])
            if key.startswith(prefix) and len(key) > len(prefix):
                return kind, key.removeprefix(prefix)
    return None


async def open_places(
    server: Redis, shard: Shard, remover: EntryRemover, opened: Sequence[DataPlace] = ()
) -> tuple[list[DataPlace], list[str]]:
    """Return the places of a shard, and the keys of no known kind. Places that are open stay. Raises RedisError."""
    keys = await find_keys(server, shard)
    by_key = {place.key: place for place in opened if isinstance(place, RedisPlace) and place.key in keys}
    places: list[DataPlace] = list(by_key.values())
    unknown: list[str] = []
    for key in keys:
        kind = kind_of(shard, key)
        if key in by_key:
            continue
        if kind is None:
            unknown.append(key)
        elif (name := KEYS[kind[0]].place) is not None:
            places.append(_open_place(name, server, shard, key, kind[1], remover))
    return places, unknown


def _open_place(name: str, server: Redis, shard: Shard, key: str, group: str, remover: EntryRemover) -> DataPlace:
    if name == KEYS["delayed"].place:
        return Delayed(server, key)
    if name == KEYS["paused"].place:
        return Pauses(server, key)
    if name == KEYS["replays"].place:
        return ReplayJobs(server, shard, group)
    return Entries(name, server, shard, key, remover)


def _fields(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return the fields of an entry. If a name is repeated, all of them are one text."""
    fields = fields_from_flat(flat)
    return fields if 2 * len(fields) == len(flat) else {**fields, b"payload": b"\n".join(flat)}


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
