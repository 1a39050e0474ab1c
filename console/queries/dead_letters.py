"""What the groups gave up on: the entry as it was, and why."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from console.format import masked, readable, received_at
from runtime.errors import Refusal
from stream.entry import EntryId
from stream.keys import Shard
from worker.group.consumer_group import registered
from worker.replay.entry_filter import ALL, Selection
from worker.replay.entry_reader import Span, on_stream

PAGE = 250


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


async def list_dead(
    server: Redis, shard: Shard, groups: Sequence[str], most: int, selection: Selection = ALL
) -> list[DeadLetter]:
    """Return at most ``most`` dead letters of each group that are meant, the newest first. Raises RedisError."""
    found = []
    for group in groups:
        pages = _newest_first(server, shard, group, min(most, PAGE))
        found += [letter async for letter in _first(most, pages, selection)]
    return found


async def _newest_first(server: Redis, shard: Shard, group: str, count: int) -> AsyncIterator[DeadLetter]:
    before = "+"
    while page := await _page(server, shard.dead(group), before, count):
        for entry_id, fields in page:
            yield DeadLetter(EntryId.from_redis(shard.number, entry_id), group, fields)
        before = f"({page[-1][0].decode()}"


async def _page(server: Redis, key: str, before: str, count: int) -> Any:
    return await server.xrevrange(key, max=before, count=count)


async def _first(most: int, letters: AsyncIterator[DeadLetter], selection: Selection) -> AsyncIterator[DeadLetter]:
    found = 0
    async for letter in letters:
        if selection.takes(letter.id, letter.fields, dead=True):
            yield letter
            found += 1
        if found == most:
            return


async def find_dead(server: Redis, shard: Shard, groups: Sequence[str], dead_id: EntryId) -> list[DeadLetter]:
    """Return the dead letters with this id, at most one of each group. Raises RedisError."""
    found = []
    for group in groups:
        entries: Any = await server.xrange(shard.dead(group), dead_id.redis, dead_id.redis)
        found += [DeadLetter(dead_id, group, fields) for _, fields in entries]
    return found


async def discard_dead(server: Redis, shard: Shard, group: str, selection: Selection) -> int:
    """Drop the group's dead letters that are meant and there by now; return how many. Raises RedisError."""
    key, discarded = shard.dead(group), 0
    newest: Any = await server.xrevrange(key, count=1)
    if not newest:
        return 0
    span = Span.of(shard.number, selection.ids)
    end = min(span.end, EntryId.from_redis(shard.number, newest[0][0]))
    async for page in on_stream(server, key, Span(span.begin, end)):
        ids = [one.id.redis for one in page if selection.takes(one.id, one.fields, dead=True)]
        if ids:
            discarded += await server.xdel(key, *ids)
    return discarded


async def groups_of(server: Redis, shard: Shard, group: str | None) -> list[str]:
    """Return the group, or all that are registered. Raises Refusal for one that there is not, and RedisError."""
    known = await registered(server, shard)
    if group is None:
        return known
    if group not in known and not await server.exists(shard.dead(group)):  # a dropped one's may be kept
        raise Refusal(f"no group {group!r}; there are: {', '.join(known) or 'none yet'}")
    return [group]
