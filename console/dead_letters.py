"""What the groups gave up on: the entry as it was, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from console.fields import masked, readable, received_at
from stream.entry import EntryId
from stream.keys import Shard


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter of one group. ``fields`` are the entry's as they were read, whatever they were."""

    id: EntryId
    group: str
    fields: Mapping[bytes, bytes]

    def summary(self) -> dict[str, Any]:
        """Return the line of a listing."""
        reason, _, error = self._text(b"error").partition(": ")
        return {
            "id": str(self.id),
            "group": self.group,
            "reason": reason,
            "error": masked(error),
            "attempts": int(self._text(b"attempt") or 1),
            "received_at": received_at(self.fields),
        }

    def whole(self, *, reveal: bool) -> dict[str, Any]:
        """Return everything; long digit runs are masked unless ``reveal``, bytes that are no UTF-8 are escaped."""
        fields = {readable(name): readable(value) for name, value in self.fields.items()}
        if not reveal:
            fields = {
                name: value if name in ("received_ms", "receipt", "origin") else masked(value)
                for name, value in fields.items()
            }
        return {
            **self.summary(),
            "origin": fields.pop("origin", None),
            "payload": fields.pop("payload", None),
            "fields": {name: value for name, value in fields.items() if name not in ("error", "attempt")},
        }

    def _text(self, name: bytes) -> str:
        return self.fields.get(name, b"").decode(errors="replace")


async def list_dead(server: Redis, shard: Shard, groups: Sequence[str], most: int) -> list[DeadLetter]:
    """Return at most ``most`` dead letters of each group, the newest first. Raises RedisError."""
    found = []
    for group in groups:
        newest: Any = await server.xrevrange(shard.dead(group), count=most)
        found += [DeadLetter(EntryId.from_redis(shard.number, entry_id), group, fields) for entry_id, fields in newest]
    return found


async def find_dead(server: Redis, shard: Shard, groups: Sequence[str], dead_id: EntryId) -> list[DeadLetter]:
    """Return the dead letters with this id, at most one of each group. Raises RedisError."""
    found = []
    for group in groups:
        entries: Any = await server.xrange(shard.dead(group), dead_id.redis, dead_id.redis)
        found += [DeadLetter(dead_id, group, fields) for _, fields in entries]
    return found
