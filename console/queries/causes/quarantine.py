"""Counts quarantined payloads by reason and account, and verifies them again with the current secrets."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from console.queries.causes.cause import Words
from console.queries.causes.counting import Streams
from console.queries.quarantine import RefusedPayload, accept, discard
from ingest.auth.verifier import Verifier
from stream.entry import EntryId
from stream.keys import Shard
from stream.layout import Layout
from worker.replay.entry_reader import Stored

COUNTED_AT_MOST = 2000


@dataclass(frozen=True, slots=True)
class QuarantineScope:
    """The quarantined payloads up to the id ``through`` or the newest.

    Without a ``verifier`` no payload is right now.
    """

    shards: Sequence[Shard]
    verifier: Verifier | None
    through: EntryId | None = None

    @property
    def streams(self) -> Streams:
        """The quarantines."""
        keys = [(shard.number, shard.quarantine, "") for shard in self.shards]
        return Streams(keys, COUNTED_AT_MOST, self.through)

    def describe(self, _: str, stored: Stored) -> tuple[Words, bool]:
        """Return the reason and the account of a payload, and whether its signature is right now."""
        refused = RefusedPayload(stored.id, stored.fields)
        account, is_right = refused.check(self.verifier)
        return {"reason": refused.reason, "account": account}, is_right


async def accept_selected(
    server: Redis,
    shards: Sequence[Shard],
    payloads: Sequence[RefusedPayload],
    verifier: Verifier | None,
    layout: Layout,
    *,
    unverified: bool,
) -> int:
    """Append these payloads if their signature is right, or ``unverified``; return their number. Raises RedisError."""
    accepted = 0
    for shard in shards:
        chosen = [payload for payload in payloads if payload.id.shard == shard.number]
        accepted += len((await accept(server, shard, chosen, verifier, layout, unverified=unverified))[0])
    return accepted


async def discard_selected(server: Redis, shards: Sequence[Shard], payloads: Sequence[RefusedPayload]) -> int:
    """Drop these payloads; return the number of those that still existed. Raises RedisError."""
    return sum(
        [
            len(await discard(server, shard, [payload for payload in payloads if payload.id.shard == shard.number]))
            for shard in shards
        ]
    )
