"""Dead letters: each entry as it was, why its group gave it up, and how many have the same error."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from redis.asyncio import Redis

from console.format import format_receipt_time, mask_numbers, to_text
from runtime.errors import Refusal
from stream.entry import EntryId
from stream.keys import Shard
from worker.group.consumer_group import read_group_names
from worker.replay.entry_filter import ALL, EntryFilter
from worker.replay.entry_reader import Span, read_stream

PAGE = 250
MOST_ERRORS = 1000
"""This many different errors are counted; those beyond are counted together."""
OTHERS = "(other errors)"

_ERROR = ("group", "reason", "error")
_OWN = ("attempt", "error", "message", "errors")
_NUMBERS = ("received_ms", "receipt", "origin", "failed_ms", "first_failed_ms")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter of one group. ``fields`` are the entry's as they were read, whatever they were."""

    id: EntryId
    group: str
    fields: Mapping[bytes, bytes]

    def summary(self) -> dict[str, Any]:
        """Return the line of a listing. ``error`` is the class and the place of the last failure."""
        reason, _, error = self._text(b"error").partition(": ")
        return {
            "id": str(self.id),
            "group": self.group,
            "reason": reason,
            "error": mask_numbers(error),
            "attempts": self._attempts(),
            "received_at": format_receipt_time(self.fields),
        }

    def details(self, *, reveal: bool) -> dict[str, Any]:
        """Return everything; bytes that are not UTF-8 are escaped.

        Unless ``reveal``, long digit runs are masked, and the error's message is left out: it may quote private data.
        """
        show = str if reveal else mask_numbers
        fields = {to_text(name): to_text(value) for name, value in self.fields.items() if to_text(name) not in _OWN}
        fields = {name: value if name in _NUMBERS else show(value) for name, value in fields.items()}
        return {
            **self.summary(),
            "message": self._text(b"message") or None if reveal else None,
            "errors": self._errors(),
            "origin": fields.pop("origin", None),
            "payload": fields.pop("payload", None),
            "fields": fields,
        }

    def _attempts(self) -> int:
        digits = self._text(b"attempt")
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 1  # noqa: PLR2004

    def _errors(self) -> list[dict[str, Any]]:
        """Return when, by which class and at which place the last attempts failed, oldest first; empty if unknown."""
        with suppress(orjson.JSONDecodeError):
            found = orjson.loads(self.fields.get(b"errors", b"[]"))
            return [_attempt(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        return []

    def _text(self, name: bytes) -> str:
        return self.fields.get(name, b"").decode(errors="replace")


def _attempt(found: Mapping[str, Any]) -> dict[str, Any]:
    """Take what worker.settle notes of an attempt."""
    return {
        "at": format_receipt_time({b"received_ms": str(found.get("ms", "")).encode()}),
        "class": mask_numbers(str(found.get("class", ""))),
        "place": mask_numbers(str(found.get("place", ""))),
    }


@dataclass(slots=True)
class DeadLetters:
    """The newest dead letters of some groups, and how many there are of each error."""

    newest: list[DeadLetter] = field(default_factory=list)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(group, reason, error) → how many."""
    newest_at: dict[tuple[str, str, str], str | None] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many there are in all."""
        return self.counts.total()

    def count(self, letter: DeadLetter) -> None:
        """Count one, after all newer ones of its group."""
        line = letter.summary()
        key = line["group"], line["reason"], line["error"]
        if key not in self.counts and len(self.counts) >= MOST_ERRORS:
            key = line["group"], OTHERS, ""
        self.counts[key] += 1
        self.newest_at.setdefault(key, line["received_at"])

    def by_error(self) -> list[dict[str, Any]]:
        """Return the errors, the most frequent first."""
        return [
            {**dict(zip(_ERROR, key, strict=True)), "count": count, "newest_received_at": self.newest_at[key]}
            for key, count in self.counts.most_common()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "dead_letters": [letter.summary() for letter in self.newest],
            "by_error": self.by_error(),
            "total": self.total,
        }


async def list_dead(
    server: Redis, shard: Shard, groups: Sequence[str], most: int, selection: EntryFilter = ALL
) -> DeadLetters:
    """Return the selected dead letters: all are counted, at most ``most`` of each group are kept, newest first.

    Reads each group's dead letters once, in pages. Raises RedisError.
    """
    found = DeadLetters()
    for group in groups:
        kept = 0
        async for letter in _newest_first(server, shard, group):
            if not selection.matches(letter.id, letter.fields, dead=True):
                continue
            found.count(letter)
            if kept < most:
                found.newest.append(letter)
                kept += 1
    return found


async def _newest_first(server: Redis, shard: Shard, group: str) -> AsyncIterator[DeadLetter]:
    before, page = "+", True
    while page:
        entries: Any = await server.xrevrange(shard.dead(group), max=before, count=PAGE)
        for entry_id, fields in entries:
            yield DeadLetter(EntryId.from_redis(shard.number, entry_id), group, fields)
        page = len(entries) == PAGE
        before = f"({entries[-1][0].decode()}" if entries else before


async def find_dead(server: Redis, shard: Shard, groups: Sequence[str], dead_id: EntryId) -> list[DeadLetter]:
    """Return the dead letters with this id, at most one of each group. Raises RedisError."""
    found = []
    for group in groups:
        entries: Any = await server.xrange(shard.dead(group), dead_id.redis, dead_id.redis)
        found += [DeadLetter(dead_id, group, fields) for _, fields in entries]
    return found


async def require_all(server: Redis, shard: Shard, groups: Sequence[str], selection: EntryFilter) -> None:
    """Raise Refusal for an id of the selection that none of the groups has, and RedisError."""
    for dead_id in selection.ids:
        if not await find_dead(server, shard, groups, EntryId.from_text(dead_id)):
            where = f" in group {groups[0]!r}" if len(groups) == 1 else ""
            raise Refusal(f"no dead letter {dead_id}{where}; `ackstream dead-letters list` shows all")


async def discard_dead(server: Redis, shard: Shard, group: str, selection: EntryFilter) -> int:
    """Drop the group's selected dead letters that exist by now; return how many. Raises RedisError."""
    key, discarded = shard.dead(group), 0
    newest: Any = await server.xrevrange(key, count=1)
    if not newest:
        return 0
    span = Span.of(shard.number, selection.ids)
    end = min(span.end, EntryId.from_redis(shard.number, newest[0][0]))
    async for page in read_stream(server, key, Span(span.begin, end)):
        ids = [one.id.redis for one in page if selection.matches(one.id, one.fields, dead=True)]
        if ids:
            discarded += await server.xdel(key, *ids)
    return discarded


async def resolve_groups(server: Redis, shard: Shard, group: str | None) -> list[str]:
    """Return the group, or all that are registered. Raises Refusal for an unknown one, and RedisError."""
    known = await read_group_names(server, shard)
    if group is None:
        return known
    if group not in known and not await server.exists(shard.dead(group)):  # a dropped group's may be kept
        raise Refusal(f"no group {group!r}; the groups are: {', '.join(known) or 'none yet, start a worker'}")
    return [group]
