"""Finds the events of a group whose retry is delayed or waits to be read, so that later events of their messages wait.

It reads the retries themselves. An index of them could differ from them.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from stream.entry import Entry, EntryId, InvalidEntry
from stream.redis.scripts import read_script
from worker.events.event import InvalidStatus
from worker.events.vonage import parse
from worker.group.group_ref import GroupRef

AT_ONCE = 250

LIST = read_script(__file__, "list_delayed.lua")

DelayedEvent = tuple[str, EntryId, float]
"""The message of an event, the event's first entry, and the seconds until its retry is due."""


class DelayedEvents:
    """The delayed events of one group on one shard."""

    def __init__(self, group: GroupRef) -> None:
        self._group = group
        self._list = group.server.register_script(LIST)

    async def read(self) -> AsyncIterator[DelayedEvent]:
        """Yield each at least once, also those that move to the retry stream in the meantime. Raises RedisError."""
        cursor: Any = 0
        while True:
            cursor, *delayed = await self._list(keys=[self._group.delayed], args=[cursor, AT_ONCE])
            for ms, flat in delayed:
                if event := _identify(flat, float(ms) / 1000):
                    yield event
            if int(cursor) == 0:
                break
        start, count = "-", AT_ONCE
        while count == AT_ONCE:
            entries: Any = await self._group.server.xrange(self._group.retry, start, "+", count=AT_ONCE)
            count = len(entries)
            for entry_id, fields in entries:
                start = f"({entry_id.decode()}"
                if event := _identify([part for pair in fields.items() for part in pair], 0):
                    yield event


def _identify(flat: Sequence[bytes], seconds: float) -> DelayedEvent | None:
    """Return the message and the origin of a copy; None if it is invalid, as its next reader finds too."""
    try:
        entry = Entry.from_flat(list(flat))
        if entry.origin is None:
            return None
        return parse(entry, entry.origin).message_uuid, EntryId.from_text(entry.origin), seconds
    except (InvalidEntry, InvalidStatus):
        return None
