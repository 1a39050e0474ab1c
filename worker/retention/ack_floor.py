"""The floor of a stream: the oldest entry that some group still needs. Nothing from there on is ever trimmed.

Each group on the stream counts, whoever made it, and each registered group: one that is missing, or that is beyond its
stream's end, stands at its checkpoint, where worker.groups will put it. Where no group is registered, the floor is the
stream's beginning.

One script finds the floor and trims, so nothing can come in between, and it does no harm whoever runs it, however late.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from stream.entry import EntryId
from stream.keys import Shard
from stream.redis.scripts import read_script
from worker.retention.loss_detector import Account

SAMPLES = 1000  # of the stream's nodes, which hold 4 KiB or one entry; takes 0.2 ms
NODE_ENTRIES = 100  # at most, unless the server is configured otherwise


SURVEY = read_script(__file__, "survey.lua")
TRIM = read_script(__file__, "trim.lua")
RECORD = read_script(__file__, "record_account.lua")


@dataclass(frozen=True, slots=True)
class GroupPosition:
    """Where a group stands. Of entries before ``floor`` it has no need."""

    name: str
    registered: bool
    exists: bool
    floor: EntryId
    unread: int | None
    """None where the server cannot tell."""
    pending: int

    def count_unsettled(self, length: int) -> int:
        """Return how many of the stream's entries it has not settled; where the server cannot tell, at most so many."""
        return length if self.unread is None else self.unread + self.pending


@dataclass(frozen=True, slots=True)
class Survey:
    """A shard as it was at one moment. ``now_ms`` is the server's clock, which also makes the entries' ids."""

    shard: int
    now_ms: int
    account: Account
    recorded: Account | None
    """What the ledger says; None before the first record."""
    first: EntryId | None
    stream_bytes: int
    maxmemory: int
    """0: the server has no limit, or does not tell."""
    groups: tuple[GroupPosition, ...]

    @property
    def length(self) -> int:
        """How many entries the stream has."""
        return self.account.length

    @property
    def floor(self) -> EntryId | None:
        """The least of the floors; None where no group is registered, for then nothing may be trimmed."""
        if not any(group.registered for group in self.groups):
            return None
        return min(group.floor for group in self.groups)

    def oldest_unsettled_seconds(self, group: GroupPosition) -> float:
        """Return the age of the oldest entry on the stream that the group needs."""
        oldest = max(group.floor, self.first or group.floor)
        return round(max(self.now_ms - oldest.ms, 0) / 1000, 3)


class AckFloor:
    """Surveys one shard, and trims it. The registered groups are those of the last survey."""

    def __init__(self, server: Redis, shard: Shard) -> None:
        self._server = server
        self._shard = shard
        self._survey = server.register_script(SURVEY)
        self._trim = server.register_script(TRIM)
        self._record = server.register_script(RECORD)
        self._names: list[bytes] = []

    async def survey(self) -> Survey:
        """Look where all groups stand. Raises RedisError."""
        names: Any = await self._server.smembers(self._shard.groups)
        self._names = sorted(names)
        shard = self._shard
        keys: list[str | bytes] = [shard.stream, shard.groups, shard.removed, *self._checkpoints()]
        reply: Any = await self._survey(keys=keys, args=[SAMPLES, *self._names])
        now_ms, length, added, recorded, first, used, most, found = reply
        return Survey(
            shard=shard.number,
            now_ms=now_ms,
            account=Account(length, added, added - length),
            recorded=None if None in recorded else Account(*map(int, recorded)),
            first=first and self._id(first),
            stream_bytes=used,
            maxmemory=most,
            groups=tuple(map(self._standing, found)),
        )

    async def record(self, token: str, account: Account) -> None:
        """Write the account to the ledger, if the lease is this token's. Raises RedisError."""
        values = [account.length, account.added, account.gone]
        await self._record(keys=[self._shard.trimmer, self._shard.removed], args=[token, *values])

    async def trim(self, token: str, lease_ms: int, stays: EntryId, *, most: int | None = None) -> int | None:
        """Remove what is before ``stays`` and before the floor; returns how many entries.

        ``most`` bounds a step, 1,000 take 0.1 ms: whole nodes of the stream go, and then what is left of one.  None:
        the lease is not this token's, or other groups are registered now; nothing is removed. Raises RedisError.
        """
        shard = self._shard
        removed = await self._trim(
            keys=[shard.stream, shard.groups, shard.trimmer, shard.removed, *self._checkpoints()],
            args=[token, lease_ms, stays.redis, most or 0, NODE_ENTRIES, *self._names],
        )
        return None if removed is None else int(removed)

    def _checkpoints(self) -> list[bytes]:
        return [self._shard.checkpoint("").encode() + name for name in self._names]

    def _standing(self, found: Sequence[Any]) -> GroupPosition:
        name, registered, exists, floor, unread, pending = found
        lag = None if unread < 0 else int(unread)
        return GroupPosition(_text(name), bool(registered), bool(exists), self._id(floor), lag, int(pending))

    def _id(self, entry_id: bytes) -> EntryId:
        return EntryId.from_redis(self._shard.number, entry_id)


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")  # a foreign group may be called anything
