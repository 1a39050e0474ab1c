"""The record of invalid payloads without a valid signature: one per shard, shared by all groups, of bounded size.

Ingest accepted such a payload with a wrong or missing signature (entry field ``signature``). Anybody can send it, so it
must not fill the dead letters of a group, nor pause the group. One script records and acks. After one group has
recorded an entry, the other groups only ack it. At the limit the script drops the oldest payloads and counts them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import structlog
from redis.asyncio import Redis

from stream.entry import Entry, EntryId
from stream.keys import Shard
from stream.redis.scripts import read_script
from worker.metrics import INVALID

log = structlog.get_logger("invalid")

RECORDED_AT_ONCE = 250
SHOW = "`ackstream invalid list` shows them"
IDS_PER_ENTRY = 10
"""Ids kept for each entry of the limit. A group that lags further behind records an entry again."""

RECORD = read_script(__file__, "record_invalid.lua")
TAKE = read_script(__file__, "take_invalid.lua")


@dataclass(frozen=True, slots=True)
class RecordLimits:
    """The limits of one shard's record."""

    entries: int = 1000
    total_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class UnverifiedPayload:
    """An entry to record: its id as in Redis, and the fields to store."""

    entry_id: bytes
    fields: Mapping[bytes, bytes]

    @classmethod
    def from_entry(cls, entry_id: bytes, fields: Mapping[bytes, bytes], *, origin: str, error: str) -> Self:
        """Build it from an entry's fields, the id of its first receipt, and the reason why its payload is invalid."""
        return cls(entry_id, {**fields, b"origin": origin.encode(), b"error": error.encode()})

    @property
    def arguments(self) -> list[bytes | str | int]:
        """The arguments of the record script for this entry."""
        first = self.fields[b"origin"].rpartition(b"/")[2]
        return [self.entry_id, first, 2 * len(self.fields), *chain.from_iterable(self.fields.items())]


class InvalidRecord:
    """The record of one shard. Each method raises RedisError."""

    def __init__(
        self,
        server: Redis,
        shard: Shard,
        limits: RecordLimits | None = None,
        register: Callable[[str], Any] | None = None,
    ) -> None:
        self._shard = shard
        self._limits = limits or RecordLimits()
        self._record = (register or server.register_script)(RECORD)
        self._take = server.register_script(TAKE)

    async def record(
        self, stream: str, group: str, entries: Sequence[UnverifiedPayload], *, are_copies: bool
    ) -> tuple[int, int]:
        """Settle entries of a group. Return how many were new to the record, and how many it dropped."""
        keys = [stream, self._shard.invalid, self._shard.invalid_ids, self._shard.invalid_totals]
        limits = self._limits.entries, self._limits.total_bytes, IDS_PER_ENTRY * self._limits.entries
        recorded = dropped = 0
        for start in range(0, len(entries), RECORDED_AT_ONCE):
            args: list[bytes | str | int] = [group, int(are_copies), *limits]
            for entry in entries[start : start + RECORDED_AT_ONCE]:
                args += entry.arguments
            counts: Any = await self._record(keys=keys, args=args)
            recorded, dropped = recorded + counts[0], dropped + counts[1]
        INVALID.labels("recorded").inc(recorded)
        INVALID.labels("dropped").inc(dropped)
        if recorded:
            log.warning("invalid.recorded", entries=recorded, dropped=dropped, what=SHOW, sampled=True)
        return recorded, dropped

    async def discard(self, record_id: EntryId) -> bool:
        """Remove a payload from the record for good. Return whether it was there."""
        return bool(await self._take(keys=self._taken_keys, args=[record_id.redis, "discarded"]))

    async def replay(self, record_id: EntryId, entry: Entry) -> bool:
        """Move an entry from the record to the stream, for all groups. Return whether it was there."""
        first = (entry.origin or "").rpartition("/")[2]
        args: list[bytes | str] = [record_id.redis, "replayed", first, *chain.from_iterable(entry.to_fields().items())]
        return bool(await self._take(keys=self._taken_keys, args=args))

    @property
    def _taken_keys(self) -> list[str]:
        return [self._shard.invalid, self._shard.invalid_ids, self._shard.invalid_totals, self._shard.stream]
