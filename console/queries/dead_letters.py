"""List, count and discard dead letters."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from console.format import format_receipt_time, list_errors, to_text
from runtime.errors import CommandError
from stream.entry import EntryId
from stream.keys import Shard
from worker.events.event import mask_numbers
from worker.group.consumer_group import read_group_names
from worker.replay.entry_filter import ALL, EntryFilter, error_of, reason_of
from worker.replay.entry_reader import Span, read_stream

PAGE = 250
MOST_ERRORS = 1000
"""At most this many different errors are counted separately; all others are counted together."""
OTHERS = "(other errors)"

_ERROR = ("group", "reason", "error")
_OWN = ("attempt", "error", "message", "errors")
_NUMBERS = ("received_ms", "receipt", "origin", "failed_ms", "first_failed_ms")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter of one group. ``fields`` are the raw fields of its entry."""

    id: EntryId
    group: str
    fields: Mapping[bytes, bytes]

    def summary(self) -> dict[str, Any]:
        """Return the row of a listing. ``error`` is the class and the place of the last failure."""
        return {
            "id": str(self.id),
            "group": self.group,
            "reason": reason_of(self.fields),
            "error": error_of(self.fields),
            "attempts": self._attempts(),
            "received_at": format_receipt_time(self.fields),
        }

    def details(self, *, reveal: bool) -> dict[str, Any]:
        """Return all fields; bytes that are not UTF-8 are escaped.

        Without ``reveal``, long digit runs are masked, and the error's message is omitted: it may quote private data.
        """
        show = str if reveal else mask_numbers
        fields = {to_text(name): to_text(value) for name, value in self.fields.items() if to_text(name) not in _OWN}
        fields = {name: value if name in _NUMBERS else show(value) for name, value in fields.items()}
        return {
            **self.summary(),
            "message": self._text(b"message") or None if reveal else None,
            "errors": list_errors(self.fields),
            "origin": fields.pop("origin", None),
            "payload": fields.pop("payload", None),
            "fields": fields,
        }

    def _attempts(self) -> int:
        digits = self._text(b"attempt")
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 1  # noqa: PLR2004

    def _text(self, name: bytes) -> str:
        return self.fields.get(name, b"").decode(errors="replace")


@dataclass(slots=True)
class DeadLetters:
    """The newest dead letters of some groups over all shards, and the number for each error."""

    newest: list[DeadLetter] = field(default_factory=list)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(group, reason, error) → how many."""
    newest_at: dict[tuple[str, str, str], str | None] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The number of dead letters."""
        return self.counts.total()

    def count(self, letter: DeadLetter) -> None:
        """Count a dead letter."""
        line = letter.summary()
        key = line["group"], line["reason"], line["error"]
        if key not in self.counts and len(self.counts) >= MOST_ERRORS:
            key = line["group"], OTHERS, ""
        self.counts[key] += 1
        newest, received_at = self.newest_at.get(key), line["received_at"]
        self.newest_at[key] = max(filter(None, (newest, received_at)), default=None)

    def by_error(self) -> list[dict[str, Any]]:
        """Return the errors with their counts, the most frequent first."""
        return [
            {**dict(zip(_ERROR, key, strict=True)), "count": count, "newest_received_at": self.newest_at[key]}
            for key, count in self.counts.most_common()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return {
            "dead_letters": [letter.summary() for letter in self.newest],
            "by_error": self.by_error(),
            "total": self.total,
        }


async def list_dead(
    server: Redis, shards: Sequence[Shard], groups: Sequence[str], limit: int, selection: EntryFilter = ALL
) -> DeadLetters:
    """Count the selected dead letters, and return at most ``limit`` of each group, newest first.

    Reads each group's dead letters once, in pages. Raises RedisError.
    """
    letters = DeadLetters()
    for group in groups:
        newest: list[DeadLetter] = []
        for shard in shards:
            listed = 0
            async for letter in _newest_first(server, shard, group):
                if not selection.matches(letter.id, letter.fields, dead=True):
                    continue
                letters.count(letter)
                if listed < limit:
                    newest.append(letter)
                    listed += 1
        letters.newest += sorted(newest, key=lambda letter: (letter.id.ms, letter.id.seq), reverse=True)[:limit]
    return letters


async def _newest_first(server: Redis, shard: Shard, group: str) -> AsyncIterator[DeadLetter]:
    before, page = "+", True
    while page:
        entries: Any = await server.xrevrange(shard.dead(group), max=before, count=PAGE)
        for entry_id, fields in entries:
            yield DeadLetter(EntryId.from_redis(shard.number, entry_id), group, fields)
        page = len(entries) == PAGE
        before = f"({entries[-1][0].decode()}" if entries else before


async def find_dead(
    server: Redis, shards: Sequence[Shard], groups: Sequence[str], dead_id: EntryId
) -> list[DeadLetter]:
    """Return the dead letters with this id, at most one for each group. Raises RedisError."""
    letters: list[DeadLetter] = []
    shard = next((shard for shard in shards if shard.number == dead_id.shard), None)
    if shard is None:
        return letters
    for group in groups:
        entries: Any = await server.xrange(shard.dead(group), dead_id.redis, dead_id.redis)
        letters += [DeadLetter(dead_id, group, fields) for _, fields in entries]
    return letters


async def require_all(server: Redis, shards: Sequence[Shard], groups: Sequence[str], selection: EntryFilter) -> None:
    """Raise CommandError for an id of the selection that no group has. Raises RedisError."""
    for dead_id in selection.ids:
        if not await find_dead(server, shards, groups, EntryId.from_text(dead_id)):
            where = f" in group {groups[0]!r}" if len(groups) == 1 else ""
            raise CommandError(f"no dead letter {dead_id}{where}; `ackstream dead-letters list` shows all")


async def discard_dead(
    server: Redis, shard: Shard, group: str, selection: EntryFilter, span: Span | None = None
) -> int:
    """Drop the group's selected dead letters in the span, by default all that exist now; return their number.

    Raises RedisError.
    """
    key, discarded = shard.dead(group), 0
    if span is None:
        newest: Any = await server.xrevrange(key, count=1)
        if not newest:
            return 0
        span = Span.from_ids(shard.number, selection.ids)
        span = Span(span.begin, min(span.end, EntryId.from_redis(shard.number, newest[0][0])))
    async for page in read_stream(server, key, span, selection.ids):
        ids = [entry.id.redis for entry in page if selection.matches(entry.id, entry.fields, dead=True)]
        if ids:
            discarded += await server.xdel(key, *ids)
    return discarded


async def resolve_groups(server: Redis, shards: Sequence[Shard], group: str | None) -> list[str]:
    """Return the named group, or all registered groups. Raises CommandError for an unknown name, and RedisError."""
    names = await read_group_names(server, shards[0])
    if group is None:
        return names
    if group not in names and not any(  # a dropped group may keep its dead letters
        [await server.exists(shard.dead(group)) for shard in shards]
    ):
        raise CommandError(f"no group {group!r}; the groups are: {', '.join(names) or 'none yet, start a worker'}")
    return [group]
