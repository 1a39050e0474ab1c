"""The ack floor of a stream: the oldest entry that some group has not settled. The stream is only trimmed before it.

Every group on the stream counts, also one of another program, and every registered group. A registered group that is
missing, or beyond the end of the stream, has its floor at its checkpoint, where worker.group.consumer_group creates it
again. If no group is registered, the floor is the start of the stream.

One script computes the floor and trims, so the floor cannot change in between, and any process may run it at any time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis

from stream.entry import EntryId
from stream.keys import Shard
from stream.redis.scripts import read_script
from worker.retention.loss_detector import Account

SAMPLES = 1000  # nodes of the stream, each of 4 KiB or one entry; takes 0.2 ms
NODE_ENTRIES = 100  # the default of the server for the entries of a node


SURVEY = read_script(__file__, "survey.lua")
TRIM = read_script(__file__, "trim.lua")
RECORD = read_script(__file__, "record_account.lua")


@dataclass(frozen=True, slots=True)
class GroupPosition:
    """The position of a group: it has settled every entry before ``floor``."""

    name: str
    registered: bool
    exists: bool
    floor: EntryId
    unread: int | None
    """None if the server does not know."""
    pending: int

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """Return the position of a group over several shards; ``floor`` is that of the first one."""
        unread = [part.unread for part in parts]
        return cls(
            name=parts[0].name,
            registered=any(part.registered for part in parts),
            exists=all(part.exists for part in parts),
            floor=parts[0].floor,
            unread=None if None in unread else sum(number or 0 for number in unread),
            pending=sum(part.pending for part in parts),
        )

    def count_unsettled(self, length: int) -> int:
        """Return how many entries the group has not settled; an upper limit if the server does not know."""
        return length if self.unread is None else self.unread + self.pending


@dataclass(frozen=True, slots=True)
class Survey:
    """A snapshot of a shard. ``now_ms`` is the clock of the server, which also makes the ids of the entries."""

    shard: int
    now_ms: int
    account: Account
    recorded: Account | None
    """The recorded loss account; None before the first record."""
    first: EntryId | None
    stream_bytes: int
    maxmemory: int
    """0 if the server has no limit or hides it."""
    groups: tuple[GroupPosition, ...]

    @property
    def length(self) -> int:
        """The number of entries on the stream."""
        return self.account.length

    @property
    def floor(self) -> EntryId | None:
        """The lowest floor of all groups; None if no group is registered, so that the stream is not trimmed."""
        if not any(group.registered for group in self.groups):
            return None
        return min(group.floor for group in self.groups)

    def oldest_unsettled_seconds(self, group: GroupPosition) -> float:
        """Return the age of the oldest entry on the stream that the group has not settled."""
        oldest = max(group.floor, self.first or group.floor)
        return round(max(self.now_ms - oldest.ms, 0) / 1000, 3)


class AckFloor:
    """Surveys and trims one shard. Trimming uses the registered groups of the last survey."""

    def __init__(self, server: Redis, shard: Shard) -> None:
        self._server = server
        self._shard = shard
        self._survey = server.register_script(SURVEY)
        self._trim = server.register_script(TRIM)
        self._record = server.register_script(RECORD)
        self._names: list[bytes] = []

    async def survey(self) -> Survey:
        """Return a snapshot of the stream and all groups. Raises RedisError."""
        names: Any = await self._server.smembers(self._shard.groups)
        self._names = sorted(names)
        shard = self._shard
        keys: list[str | bytes] = [shard.stream, shard.groups, shard.removed, *self._checkpoints()]
        reply: Any = await self._survey(keys=keys, args=[SAMPLES, *self._names])
        now_ms, length, added, recorded, first, stream_bytes, maxmemory, positions = reply
        return Survey(
            shard=shard.number,
            now_ms=now_ms,
            account=Account(length, added, added - length),
            recorded=_parse_account(recorded),
            first=first and self._id(first),
            stream_bytes=stream_bytes,
            maxmemory=maxmemory,
            groups=tuple(map(self._parse_position, positions)),
        )

    async def record(self, token: str, survey: Survey) -> None:
        """Record the loss account of a survey, if this token holds the lease and nobody else changed the record.

        Raises RedisError.
        """
        now, before = survey.account, survey.recorded
        values: list[str | int] = [token, now.length, now.added, now.gone]
        values += [before.length, before.added, before.gone] if before else ["", "", ""]
        await self._record(keys=[self._shard.trimmer, self._shard.removed], args=values)

    async def trim(self, token: str, lease_ms: int, stays: EntryId, *, limit: int | None = None) -> int | None:
        """Remove entries before ``stays`` and before the floor, and return their number. Raises RedisError.

        ``limit`` is the greatest number of entries of a step; 1,000 take 0.1 ms. Redis removes whole nodes of the
        stream, and single entries only if no whole node can go. Returns None and removes nothing if the token does not
        hold the lease, or if other groups are registered than in the last survey.
        """
        shard = self._shard
        removed = await self._trim(
            keys=[shard.stream, shard.groups, shard.trimmer, shard.removed, *self._checkpoints()],
            args=[token, lease_ms, stays.redis, limit or 0, NODE_ENTRIES, *self._names],
        )
        return None if removed is None else int(removed)

    def _checkpoints(self) -> list[bytes]:
        return [self._shard.checkpoint("").encode() + name for name in self._names]

    def _parse_position(self, reply: Sequence[Any]) -> GroupPosition:
        name, registered, exists, floor, unread, pending = reply
        lag = None if unread < 0 else int(unread)
        return GroupPosition(_text(name), bool(registered), bool(exists), self._id(floor), lag, int(pending))

    def _id(self, entry_id: bytes) -> EntryId:
        return EntryId.from_redis(self._shard.number, entry_id)


def _parse_account(recorded: Sequence[bytes | None]) -> Account | None:
    """Return the recorded account; None without a record, or if a value is not a number."""
    try:
        return Account(*(int(value or b"") for value in recorded))
    except ValueError:
        return None


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")  # the group of another program may have any name
