"""Parses the entries of one read, and sorts them into events and invalid entries. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from stream.entry import Entry, InvalidEntry, fields_from_flat, find_origin
from stream.probe import find_probe
from worker.events.event import InvalidStatus, StatusEvent
from worker.events.vonage import parse
from worker.group.heartbeat import RawEntries
from worker.settle.copies import MOST_FIELDS, Copy
from worker.settle.invalid import UnverifiedPayload
from worker.sources import Source


@dataclass(frozen=True, slots=True)
class Batch:
    """Parsed entries in flight. ``generation`` is the consumer's when they were read (worker.group.heartbeat)."""

    source: Source
    generation: int
    entries: list[tuple[bytes, list[bytes]]] = field(default_factory=list)
    events: list[StatusEvent] = field(default_factory=list)
    """The event of each of ``entries``."""
    invalid: list[Copy] = field(default_factory=list)
    """Dead letters: malformed entries, and invalid payloads with a valid signature or where none is checked."""
    unverified: list[UnverifiedPayload] = field(default_factory=list)
    """Invalid payloads without a valid signature although signatures are checked: anybody may have sent them."""
    probes: list[bytes] = field(default_factory=list)
    """The ids of self-test entries (stream.probe). They are acked without a call."""

    def without(self, places: Sequence[int]) -> "Batch":
        """Return the batch without the events at these places, and without its invalid entries and probes."""
        rest = sorted(set(range(len(self.entries))) - set(places))
        entries, events = [self.entries[place] for place in rest], [self.events[place] for place in rest]
        return Batch(self.source, self.generation, entries, events)

    @classmethod
    def read(cls, source: Source, entries: RawEntries, *, shard: int, generation: int) -> Self:
        """Parse raw entries of one stream."""
        batch = cls(source, generation)
        for entry_id, flat in entries:
            live_id = f"{shard}/{entry_id.decode()}"
            try:
                entry = Entry.from_flat(flat)
            except InvalidEntry as exc:
                fields = fields_from_flat(flat)
                origin = find_origin(fields) or live_id
                batch.invalid.append(Copy.from_invalid(entry_id, fields, origin=origin, error=f"invalid-entry: {exc}"))
                continue
            if entry.probe is not None and entry.probe == find_probe(entry.payload):
                batch.probes.append(entry_id)
                continue
            try:
                event = parse(entry, entry.origin or live_id)
            except InvalidStatus as exc:
                batch._sort_invalid(
                    entry_id, fields_from_flat(flat), entry, entry.origin or live_id, f"invalid-status: {exc}"
                )
            else:
                batch.entries.append((entry_id, flat))
                batch.events.append(event)
        return batch

    def _sort_invalid(
        self, entry_id: bytes, fields: Mapping[bytes, bytes], entry: Entry, origin: str, error: str
    ) -> None:
        if entry.verified == "none" and entry.signature is not None and len(fields) < MOST_FIELDS:
            self.unverified.append(UnverifiedPayload.from_entry(entry_id, fields, origin=origin, error=error))
        else:
            self.invalid.append(Copy.from_invalid(entry_id, fields, origin=origin, error=error))
