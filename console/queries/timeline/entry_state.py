"""Derives the state of one entry in one group from its position, its copies, its outcomes and its replays. No I/O."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from console.format import list_errors
from console.queries.timeline.copies import CopyPlace, EntryCopy
from console.queries.timeline.positions import LiveEntry, LiveState
from worker.events.event import mask_numbers
from worker.events.timestamps import iso_time
from worker.settle.history import EntryOutcome


class EntryState(StrEnum):
    """The state of an entry in a group, for people."""

    MISSING = "missing"
    UNREAD = "unread"
    IN_FLIGHT = "in flight"
    REPLAYING = "replaying"
    """A replay has made a copy, which is not settled, or will make one."""
    RETRYING = "retrying"
    """A retry is due or in flight."""
    DELAYED = "delayed"
    DEAD = "dead letter"
    HANDLED = "handled"
    """At a later attempt, or after a replay, as the history says."""
    REPEATED = "repeated"
    FILTERED = "filtered"
    REPLAYED = "replayed"
    """A replay has copied it, and nothing of it waits. The history does not say whether it was handled."""
    GONE = "dead letter removed"
    """It was a dead letter, which was discarded, or replayed long ago."""
    SETTLED = "settled"


_PLACES = {
    CopyPlace.REPLAY: EntryState.REPLAYING,
    CopyPlace.RETRY: EntryState.RETRYING,
    CopyPlace.DELAYED: EntryState.DELAYED,
    CopyPlace.DEAD: EntryState.DEAD,
}
_OUTCOMES = {
    "handled": EntryState.HANDLED,
    "repeated": EntryState.REPEATED,
    "filtered": EntryState.FILTERED,
    "dead-lettered": EntryState.GONE,
}
_LIVE = {
    LiveState.MISSING: EntryState.MISSING,
    LiveState.UNREAD: EntryState.UNREAD,
    LiveState.IN_FLIGHT: EntryState.IN_FLIGHT,
    LiveState.SETTLED: EntryState.SETTLED,
}


def describe_group(
    name: str,
    live: LiveEntry,
    copies: Sequence[EntryCopy],
    outcomes: Sequence[tuple[int, EntryOutcome]],
    replays: Sequence[Mapping[str, Any]],
    *,
    reveal: bool,
) -> dict[str, Any]:
    """Return the state of an entry in a group. Without ``reveal`` error messages are None, and numbers masked."""
    show = str if reveal else mask_numbers
    by_place = {copy.place: copy for copy in copies}
    copy = next((by_place[place] for place in _PLACES if place in by_place), None)
    return {
        "group": name,
        "state": str(_find_state(live, copy, outcomes, replays)),
        "attempts": _count_attempts(live, copy, outcomes),
        "deliveries": live.deliveries or None,
        "idle_seconds": live.idle_ms / 1000 if live.state is LiveState.IN_FLIGHT else None,
        "due_at": iso_time(copy.ms) if copy and copy.place is CopyPlace.DELAYED else None,
        "dead_letter": str(by_place[CopyPlace.DEAD].id) if CopyPlace.DEAD in by_place else None,
        "dead_at": iso_time(by_place[CopyPlace.DEAD].ms) if CopyPlace.DEAD in by_place else None,
        "error": show(copy.text(b"error")) or None if copy else None,
        "message": copy.text(b"message") or None if copy and reveal else None,
        "errors": list_errors(copy.fields) if copy else [],
        "outcomes": [
            {
                "at": iso_time(ms),
                "outcome": outcome.outcome,
                "attempt": outcome.attempt,
                "error": show(outcome.error) or None,
            }
            for ms, outcome in outcomes
        ],
        "replays": list(replays),
    }


def _find_state(
    live: LiveEntry,
    copy: EntryCopy | None,
    outcomes: Sequence[tuple[int, EntryOutcome]],
    replays: Sequence[Mapping[str, Any]],
) -> EntryState:
    if live.state in (LiveState.UNREAD, LiveState.IN_FLIGHT):
        return _LIVE[live.state]
    if copy is not None:
        return _PLACES[copy.place]
    if any(not replay["is_copied"] and replay["state"] in ("running", "paused", "failed") for replay in replays):
        return EntryState.REPLAYING
    last_ms, last = outcomes[-1] if outcomes else (-1, None)
    copied = [replay for replay in replays if replay["is_copied"]]
    if copied and (last is None or copied[-1]["started_at"] >= (iso_time(last_ms) or "")):
        return EntryState.REPLAYED
    if last is not None:
        return _OUTCOMES.get(last.outcome, EntryState.SETTLED)
    return _LIVE[live.state]


def _count_attempts(
    live: LiveEntry, copy: EntryCopy | None, outcomes: Sequence[tuple[int, EntryOutcome]]
) -> int | None:
    """Return the number of counted attempts; None if the group has not settled the entry, or made no call."""
    if copy is not None and copy.text(b"attempt").isdecimal():
        return int(copy.text(b"attempt"))
    if outcomes:
        last = outcomes[-1][1]
        return last.attempt if last.outcome in ("handled", "dead-lettered") else None
    return 1 if live.state is LiveState.SETTLED and copy is None else None
