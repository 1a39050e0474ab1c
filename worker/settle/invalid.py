"""The record of invalid payloads that no signature proves: one per shard, for all groups, of bounded size.

Such a payload came with a wrong or missing signature that was let in (entry field ``signature``). Anybody can send it,
so it must neither fill the dead letters of a group nor pause it. Recording and ack are one script, and an entry that
one group has recorded is only acked by the others. At the limit the oldest payloads are dropped and counted.
"""

from collections.abc import Mapping, Sequence
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
"""How many ids are remembered for each entry that may be kept: a group that lags further behind records it again."""

RECORD = read_script(__file__, "record_invalid.lua")
TAKE = read_script(__file__, "take_invalid.lua")


@dataclass(frozen=True, slots=True)
class RecordLimits:
    """How much the record of one shard keeps."""

    entries: int = 1000
    total_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class UnverifiedPayload:
    """An entry to be recorded: its id as Redis writes it, and the fields to record."""

    entry_id: bytes
    fields: Mapping[bytes, bytes]

    @classmethod
    def from_entry(cls, entry_id: bytes, fields: Mapping[bytes, bytes], *, origin: str, error: str) -> Self:
        """Take an entry's fields, the id of its first receipt, and why its payload is invalid."""
        return cls(entry_id, {**fields, b"origin": origin.encode(), b"error": error.encode()})

    @property
    def arguments(self) -> list[bytes | str | int]:
        """The arguments of the script for this entry."""
        first = self.fields[b"origin"].rpartition(b"/")[2]
        return [self.entry_id, first, 2 * len(self.fields), *chain.from_iterable(self.fields.items())]


class InvalidRecord:
    """The record of one shard. Every method raises RedisError."""

    def __init__(self, server: Redis, shard: Shard, limits: RecordLimits | None = None) -> None:
        self._shard = shard
        self._limits = limits or RecordLimits()
        self._record = server.register_script(RECORD)
        self._take = server.register_script(TAKE)

    async def record(
        self, stream: str, group: str, entries: Sequence[UnverifiedPayload], *, are_copies: bool
    ) -> tuple[int, int]:
        """Settle these entries of a group. Returns how many were new to the record, and how many it dropped."""
        keys = [stream, self._shard.invalid, self._shard.invalid_ids, self._shard.invalid_totals]
        limits = self._limits.entries, self._limits.total_bytes, IDS_PER_ENTRY * self._limits.entries
        recorded = dropped = 0
        for start in range(0, len(entries), RECORDED_AT_ONCE):
            args: list[bytes | str | int] = [group, int(are_copies), *limits]
            for entry in entries[start : start + RECORDED_AT_ONCE]:
                args += entry.arguments
            found: Any = await self._record(keys=keys, args=args)
            recorded, dropped = recorded + found[0], dropped + found[1]
        INVALID.labels("recorded").inc(recorded)
        INVALID.labels("dropped").inc(dropped)
        if recorded:
            log.warning("invalid.recorded", entries=recorded, dropped=dropped, what=SHOW, sampled=True)
        return recorded, dropped

    async def discard(self, record_id: EntryId) -> bool:
        """Remove a payload from the record for good; whether it was there."""
        return bool(await self._take(keys=self._taken_keys, args=[record_id.redis, "discarded"]))

    async def replay(self, record_id: EntryId, entry: Entry) -> bool:
        """Append an entry of the record to the stream, for every group, and remove it; whether it was there."""
        first = (entry.origin or "").rpartition("/")[2]
        args: list[bytes | str] = [record_id.redis, "replayed", first, *chain.from_iterable(entry.to_fields().items())]
        return bool(await self._take(keys=self._taken_keys, args=args))

    @property
    def _taken_keys(self) -> list[str]:
        return [self._shard.invalid, self._shard.invalid_ids, self._shard.invalid_totals, self._shard.stream]
