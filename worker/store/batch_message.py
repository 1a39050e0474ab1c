"""One message of a batch, while ``store`` writes it. No I/O."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from worker.events.event import SUBMITTED, StatusEvent
from worker.store.projection import (
    INDEXED,
    MOST_DECIDING,
    MessageState,
    extend,
    find_deciding,
    is_repeat,
    merge_receipts,
)

LEAST_DECIDING = 4
"""At least this many events stay marked, so a message with fewer deciding events has only deciding events."""

_INDEXED_VALUES = attrgetter(*INDEXED)
_STATUS = attrgetter("status")


@dataclass(slots=True)
class BatchMessage:
    """One message of a batch, while it is written."""

    message_uuid: str
    arrived: Mapping[str, StatusEvent]
    stored: MessageState | None = None
    """The state in its row; None without a row, and if the row is empty or stale."""
    counted: str | None = None
    """Its contribution that the roll-ups contain."""
    is_new: bool = False
    """Whether it has certainly no stored events."""
    state: MessageState | None = None
    """The new state, if ``stored`` and the events of the batch decide it."""
    deciding: Mapping[str, StatusEvent] = field(default_factory=dict)
    """The stored deciding events, and the events of the batch."""
    changed: Mapping[str, StatusEvent] = field(default_factory=dict)
    """Events that are new or have another receipt."""
    undecisive: Mapping[str, StatusEvent] = field(default_factory=dict)
    """Events of the batch that are stored and do not decide."""
    read: Collection[str] = ()
    """Ids of the stored deciding events, if there are at least LEAST_DECIDING."""

    def extend(self) -> bool:
        """Compute the new state from the stored one, without the stored events. Return whether that is possible."""
        state = self.stored
        for event in self.arrived.values():
            state = state and extend(state, event)
        if state is None:
            return False
        self.state = state
        self.deciding = self.changed = self.arrived
        return True

    def drop_repeats(self, receipts: Mapping[str, Any]) -> bool:
        """Drop the events that change nothing in stored ones with these receipts. Return whether the row may change."""
        if receipts:
            self.arrived = {
                event_id: event
                for event_id, event in self.arrived.items()
                if event_id not in receipts or not is_repeat(event, receipts[event_id])
            }
        return bool(self.arrived) or self.stored is None

    def may_have_undecisive(self) -> bool:
        """Whether there can be stored events that do not decide."""
        return bool(self.read)

    def take_arrived(self) -> bool:
        """Merge the events of the batch into the stored ones. Return whether a deciding event has another receipt."""
        if not self.deciding:
            self.deciding = self.changed = self.arrived
            return False
        is_moved = False
        changed: dict[str, StatusEvent] = {}
        for event_id, event in self.arrived.items():
            decided = self.deciding.get(event_id)
            before = decided or self.undecisive.get(event_id)
            merged = event if before is None else merge_receipts(before, event)
            if merged != before:
                changed[event_id] = merged
                is_moved |= decided is not None
        self.changed = changed
        self.deciding = {**self.deciding, **changed}
        return is_moved

    def is_likely_new(self) -> bool:
        """Whether its row likely does not exist yet."""
        return SUBMITTED in map(_STATUS, self.arrived.values())

    def needs_row(self) -> bool:
        """Whether to write its row."""
        return bool(self.changed) or self.stored is None

    def keeps_indexed(self, state: MessageState) -> bool:
        """Whether the indexes of messages contain the same values for this state as for the stored one."""
        stored = self.stored
        return (
            stored is not None
            and _INDEXED_VALUES(stored) == _INDEXED_VALUES(state)
            and stored.first_at == state.first_at
        )

    def is_stored(self) -> bool:
        """Whether events of it were stored before. Call it after ``take_arrived``."""
        return self.changed is not self.arrived

    def reduce(self) -> None:
        """Drop events that do not decide if there are more than MOST_DECIDING; keep at least LEAST_DECIDING."""
        if len(self.deciding) <= MOST_DECIDING:
            return
        ids = find_deciding(self.deciding.values(), LEAST_DECIDING)
        self.deciding = {event_id: event for event_id, event in self.deciding.items() if event_id in ids}
