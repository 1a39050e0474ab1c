"""Counts recorded invalid payloads by error and signature, and replays and discards those of a selection."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from console.queries.causes.cause import Words
from console.queries.causes.counting import Streams
from console.queries.invalid import RecordedPayload, discard_invalid, replay_invalid
from stream.entry import EntryId
from stream.keys import Shard
from worker.replay.entry_reader import Stored

COUNTED_AT_MOST = 2000


@dataclass(frozen=True, slots=True)
class InvalidScope:
    """The recorded payloads up to the id ``through`` or the newest."""

    shards: Sequence[Shard]
    through: EntryId | None = None

    @property
    def streams(self) -> Streams:
        """The records."""
        return Streams([(shard.number, shard.invalid, "") for shard in self.shards], COUNTED_AT_MOST, self.through)

    def describe(self, _: str, stored: Stored) -> tuple[Words, bool]:
        """Return the error and the signature of a payload, and whether it is a status now."""
        payload = RecordedPayload(stored.id, stored.fields)
        row = payload.summary()
        return {name: str(row[name]) for name in ("error", "signature")}, payload.entry() is not None


async def replay_selected(server: Redis, shards: Sequence[Shard], ids: Sequence[EntryId]) -> tuple[int, int]:
    """Parse these payloads again and append the valid ones; return their number and that of the others.

    Raises RedisError.
    """
    replayed = still_invalid = 0
    for shard in shards:
        counts = await replay_invalid(server, shard, [entry_id for entry_id in ids if entry_id.shard == shard.number])
        replayed, still_invalid = replayed + counts[0], still_invalid + counts[1]
    return replayed, still_invalid


async def discard_selected(server: Redis, shards: Sequence[Shard], ids: Sequence[EntryId]) -> int:
    """Drop these payloads; return the number of those that still existed. Raises RedisError."""
    return sum(
        [
            await discard_invalid(server, shard, [entry_id for entry_id in ids if entry_id.shard == shard.number])
            for shard in shards
        ]
    )
