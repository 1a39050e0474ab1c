"""Finds the message of a text in Redis: of an entry on the stream, or of entries that the tables do not have yet."""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.format import parse_entry_id
from console.queries.timeline.positions import read_entries
from console.queries.timeline.timeline import find_timeline
from runtime.errors import CommandError
from stream.entry import EntryId
from stream.keys import Shard
from stream.shard_watch import FindShards
from worker.events.stored import parse_stored

_WITHOUT_SHARD = re.compile(r"\d{13,}-\d+", re.ASCII)
"""An entry id as Redis writes it. A shorter one may be a number."""


def read_entry_id(text: str) -> EntryId | None:
    """Return the entry id that the text is; None for another text."""
    with suppress(CommandError):
        return parse_entry_id(f"0/{text}" if _WITHOUT_SHARD.fullmatch(text) else text)
    return None


async def find_live(server: Redis, shards: Sequence[Shard], entry_id: EntryId) -> str | None:
    """Return the message of an entry; None if the stream does not have it as a status. Raises RedisError."""
    for shard in shards:
        entries = await read_entries(server, shard, [entry_id]) if shard.number == entry_id.shard else {}
        for fields in entries.values():
            if event := parse_stored(fields, str(entry_id)):
                return event.message_uuid
    return None


async def search_redis(server: Redis, find_shards: FindShards, text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the message that Redis has and the tables do not, and the places that were searched without a match."""
    entry_id = read_entry_id(text)
    try:
        shards = await find_shards()
        if entry_id is not None:
            live = await find_live(server, shards, entry_id)
            return ([{"message_uuid": live, "entry": str(entry_id)}], []) if live else ([], ["stream"])
        for shard in shards:
            if (await find_timeline(server, shard, text, [], reveal=False)).webhooks:
                return [{"message_uuid": text, "entry": None}], []
    except RedisError:
        return [], ["redis away"]
    return [], ["unsettled entries", "delayed retries", "dead letters"]
