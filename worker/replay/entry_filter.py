"""Which stored entries are meant: by when they were received, by their ids, by what their payloads say. No I/O.

Receipt counts, not the entry's id: what was spooled came to the stream later than it was received.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from stream.entry import LATEST_MS, Entry, EntryId, InvalidEntry, read_received_ms
from worker.events.event import InvalidStatus, StatusEvent
from worker.events.timestamps import iso_time
from worker.events.vonage import parse

Fields = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """What is meant: all that fits everything given; of several values of one kind, any. Nothing given means all.

    ``since_ms`` is in it, ``until_ms`` is not. ``ids`` are written ``shard/ms-seq``. ``reasons`` are of dead letters.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    ids: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def is_all(self) -> bool:
        """Whether nothing was given."""
        return self == ALL

    @property
    def scope(self) -> str:
        """Say it in words for logs and listings."""
        moments = {name: iso_time(getattr(self, f"{name}_ms")) for name in ("since", "until")}
        said = [f"{name}={moment}" for name, moment in moments.items() if moment]
        said += [f"{word}={','.join(values)}" for name, word in _WORDS.items() if (values := getattr(self, name))]
        return " ".join(said) or "all"

    @property
    def received_span(self) -> tuple[int, int] | None:
        """The least and the greatest time of receipt that is selected, in ms; None for any, or none given."""
        if self.since_ms is None and self.until_ms is None:
            return None
        return self.since_ms or 0, LATEST_MS if self.until_ms is None else self.until_ms - 1

    def matches(self, entry_id: EntryId, stored: Fields, *, dead: bool = False) -> bool:
        """Whether this entry is meant. What is no status is not, unless it is dead and its contents are not asked for.

        On the stream it would only be buried once more; among dead letters somebody may want that.
        """
        if self.ids and str(entry_id) not in self.ids:
            return False
        if self.reasons and reason_of(stored) not in self.reasons:
            return False
        if not self._in_time(read_received_ms(stored)):
            return False
        asks = self.messages or self.statuses or self.channels or self.accounts
        if dead and not asks:
            return True
        event = _event(stored)
        return event is not None and self._fits(event)

    def to_json(self) -> dict[str, Any]:
        """Return what was given, as JSON can hold it. ``from_json`` gives back an equal selection."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Take what ``to_json`` gave. Raises TypeError for anything else."""
        values: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in given.items()}
        return cls(**values)

    def _in_time(self, moment: int | None) -> bool:
        if moment is None:
            return self.since_ms is None and self.until_ms is None
        return (self.since_ms is None or self.since_ms <= moment) and (self.until_ms is None or moment < self.until_ms)

    def _fits(self, event: StatusEvent) -> bool:
        return (
            (not self.messages or event.message_uuid in self.messages)
            and (not self.statuses or event.status in self.statuses)
            and (not self.channels or event.channel in self.channels)
            and (not self.accounts or event.account in self.accounts)
        )


ALL = EntryFilter()

_WORDS = {
    "ids": "id",
    "messages": "message",
    "statuses": "status",
    "channels": "channel",
    "accounts": "account",
    "reasons": "reason",
}


def reason_of(stored: Fields) -> str:
    """Return the first word of a dead letter's error."""
    return stored.get(b"error", b"").partition(b": ")[0].decode(errors="replace")


def _event(stored: Fields) -> StatusEvent | None:
    try:
        return parse(Entry.from_fields(stored), "")
    except (InvalidEntry, InvalidStatus):
        return None
