"""What the groups gave up on: the entry as it was, and why."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from stream.entry import EntryId
from stream.keys import Shard
from worker.status import mask

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"\d{6,}")


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
            "error": error,
            "attempts": int(self._text(b"attempt") or 1),
            "received_at": self._received_at(),
        }

    def whole(self, *, reveal: bool) -> dict[str, Any]:
        """Return everything; long digit runs are masked unless ``reveal``, bytes that are no UTF-8 are escaped."""
        fields = {_readable(name): _readable(value) for name, value in self.fields.items()}
        if not reveal:
            fields = {
                name: value if name in ("received_ms", "receipt", "origin") else _masked(value)
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

    def _received_at(self) -> str | None:
        digits = self._text(b"received_ms")
        if not re.fullmatch(r"\d{1,14}", digits, re.ASCII):  # an entry that is none of ours
            return None
        return (_EPOCH + timedelta(milliseconds=int(digits))).isoformat()


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


def _readable(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _masked(text: str) -> str:
    return _NUMBER.sub(lambda run: mask(run.group()) or "", text)
