"""Filters stored entries by time of receipt, by id and by the contents of their payloads. No I/O.

The time is the time of receipt and not that of the id, because a spooled entry reached the stream later.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from stream.entry import LATEST_MS, EntryId, read_received_ms
from worker.events.event import StatusEvent, mask_numbers
from worker.events.stored import parse_stored
from worker.events.timestamps import iso_time

Fields = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """A filter. An entry must match every criterion, by any of its values. Without criteria all entries match.

    ``since_ms`` is inclusive, ``until_ms`` exclusive. ``ids`` are written ``shard/ms-seq``. ``reasons`` and ``errors``
    are those of dead letters, the errors with masked numbers.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    ids: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def is_all(self) -> bool:
        """Whether the filter has no criteria."""
        return self == ALL

    @property
    def scope(self) -> str:
        """The filter as text, for logs and listings."""
        times = {name: iso_time(getattr(self, f"{name}_ms")) for name in ("since", "until")}
        words = [f"{name}={time}" for name, time in times.items() if time]
        words += [f"{word}={','.join(values)}" for name, word in _WORDS.items() if (values := getattr(self, name))]
        return " ".join(words) or "all"

    @property
    def received_span(self) -> tuple[int, int] | None:
        """The earliest and latest time of receipt that match, in ms; None if the filter has no times."""
        if self.since_ms is None and self.until_ms is None:
            return None
        return self.since_ms or 0, LATEST_MS if self.until_ms is None else self.until_ms - 1

    def matches(self, entry_id: EntryId, stored: Fields, *, dead: bool = False) -> bool:
        """Whether the entry matches. An invalid payload matches only as a dead letter, without criteria on contents.

        A replay from the stream would only dead-letter it again, but an operator may replay the dead letter.
        """
        if self.ids and str(entry_id) not in self.ids:
            return False
        if self.reasons and reason_of(stored) not in self.reasons:
            return False
        if self.errors and error_of(stored) not in self.errors:
            return False
        if self.received_span and not self._is_in_time(read_received_ms(stored)):
            return False
        needs_event = self.messages or self.statuses or self.channels or self.accounts
        if dead and not needs_event:
            return True
        event = parse_stored(stored, "")
        return event is not None and self._matches_event(event)

    def to_json(self) -> dict[str, Any]:
        """Return the criteria as values for JSON. ``from_json`` makes an equal filter from them."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    @classmethod
    def from_json(cls, criteria: Mapping[str, Any]) -> Self:
        """Make a filter from the values of ``to_json``. Raises TypeError for other values."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in criteria.items()
        }
        return cls(**values)

    def _is_in_time(self, time_ms: int | None) -> bool:
        if time_ms is None:
            return self.since_ms is None and self.until_ms is None
        return (self.since_ms is None or self.since_ms <= time_ms) and (
            self.until_ms is None or time_ms < self.until_ms
        )

    def _matches_event(self, event: StatusEvent) -> bool:
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
    "errors": "error",
}


def reason_of(stored: Fields) -> str:
    """Return the reason of a dead letter, which starts its error."""
    return stored.get(b"error", b"").partition(b": ")[0].decode(errors="replace")


def error_of(stored: Fields) -> str:
    """Return the error of a dead letter after its reason, with masked numbers: class and place, or a sentence."""
    return mask_numbers(stored.get(b"error", b"").partition(b": ")[2].decode(errors="replace"))
