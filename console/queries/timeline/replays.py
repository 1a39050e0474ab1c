"""Finds the replays of a group that cover an entry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from console.queries.timeline.copies import NEAR_MS
from stream.entry import Entry, EntryId
from worker.events.event import StatusEvent
from worker.events.timestamps import iso_time
from worker.replay.job import Place, Progress


@dataclass(frozen=True, slots=True)
class ReplayedEntry:
    """An entry of a message, and the dead letters that a group has or had of it."""

    id: EntryId
    event: StatusEvent
    dead_ids: Sequence[EntryId] = ()
    dead_ms: Sequence[int] = ()
    """The times of dead letters in the history. Their ids are not known."""
    reason: str = ""
    """The error of the dead letter, which starts with its reason."""

    def find_replays(self, replays: Sequence[Progress]) -> list[dict[str, Any]]:
        """Return the replays that cover this entry, the first one first.

        ``is_copied`` says whether the replay has passed the entry. A replay of dead letters that were removed since is
        found by the time of the dead letter.
        """
        covering = [(progress, position) for progress in replays if (position := self._find_position(progress))]
        return [
            {
                "replay": progress.replay.id,
                "state": progress.state.value,
                "from": progress.replay.place.value,
                "started_at": iso_time(progress.replay.started_ms),
                "by": progress.started.person or None,
                "why": progress.started.why or None,
                "is_copied": position <= progress.cursor,
            }
            for progress, position in sorted(covering, key=lambda pair: pair[0].replay.started_ms)
        ]

    def _find_position(self, progress: Progress) -> EntryId | None:
        """Return the id by which the replay reads this entry; None if it does not cover the entry."""
        shard = self.id.shard
        begin, end = (EntryId.from_redis(shard, text) for text in (progress.replay.begin, progress.replay.end))
        selection = progress.replay.selection
        if progress.replay.place is not Place.DEAD:
            is_covered = begin < self.id <= end and selection.matches(self.id, self._fields)
            return self.id if is_covered else None
        for dead_id in self.dead_ids:
            if begin < dead_id <= end and selection.matches(dead_id, self._fields, dead=True):
                return dead_id
        chosen = [EntryId.from_text(text) for text in selection.ids]
        for ms in self.dead_ms:
            near = [dead_id for dead_id in chosen if ms - NEAR_MS <= dead_id.ms <= ms]
            dead_id = near[0] if near else EntryId(shard, ms, 0)
            if (
                begin.ms <= ms
                and dead_id.ms - NEAR_MS <= end.ms
                and selection.matches(dead_id, self._fields, dead=True)
            ):
                return min(dead_id, end)
        return None

    @property
    def _fields(self) -> Mapping[bytes, bytes]:
        event = self.event
        entry = Entry(
            payload=event.raw,
            content_type="",
            received_ms=int(event.received_at.timestamp() * 1000),
            receipt="",
            verified="jwt" if event.account_verified else "none",
            account=event.account if event.account_verified else None,
            error=self.reason or None,
        )
        return entry.to_fields()
