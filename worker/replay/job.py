"""A replay job: the entries to copy to a group, and the progress. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from typing import Any, Self

import orjson

from stream.entry import EntryId
from worker.events.timestamps import iso_time
from worker.replay.entry_filter import EntryFilter


class Place(StrEnum):
    """The source of the entries."""

    STREAM = "stream"
    ARCHIVE = "archive"
    """The archive, and then the stream from its first entry."""
    DEAD = "dead"
    """The dead letters of the group; each is removed when its copy is made."""


class State(StrEnum):
    """The state of a replay."""

    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    """The replay stopped at an error, which is in ``error``. It can be resumed."""
    CANCELLED = "cancelled"
    DONE = "done"


ENDED = (State.CANCELLED, State.DONE)
SHOWN_FIRST = (State.FAILED, State.RUNNING, State.PAUSED, State.CANCELLED, State.DONE)
"""A replay of several shards is in the first of these states that one of its parts is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The parameters of a replay. It reads the entries after ``begin`` up to ``end``, both in the form of Redis.

    A replay over several shards has a part on each, with the same id: it reads and copies only entries of its shard.
    """

    id: str
    group: str
    place: Place
    selection: EntryFilter
    rate: float
    """Copies a second."""
    begin: str
    end: str
    total: int
    """The number of matching entries when the replay was planned."""
    started_ms: int

    @property
    def hold(self) -> str:
        """The consumer group that stops the trimmer at the cursor. No handler can have such a name."""
        return "" if self.place is Place.DEAD else f"replay/{self.id}"

    @property
    def scope(self) -> str:
        """The source and filter as text."""
        where = {Place.STREAM: "", Place.ARCHIVE: "with the archive: ", Place.DEAD: "dead letters: "}
        return where[self.place] + self.selection.scope

    def to_json(self) -> bytes:
        """Encode the parameters. ``from_json`` makes an equal Replay from them."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "selection"}
        return orjson.dumps({**values, "selection": self.selection.to_json()})

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Decode the text of ``to_json``. Raises ValueError, TypeError or KeyError for other texts."""
        values = orjson.loads(text)
        selection = EntryFilter.from_json(values.pop("selection"))
        return cls(**{**values, "place": Place(values["place"])}, selection=selection)


@dataclass(frozen=True, slots=True)
class Act:
    """An act of a person on a replay: its time, the person and the reason.

    Replays of an older version have no person and no reason.
    """

    ms: int
    person: str = ""
    why: str = ""

    def summary(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return {"at": iso_time(self.ms), "by": self.person or None, "why": self.why or None}


def sum_rates(shares: Iterable[float]) -> float:
    """Return the rate that was divided into these shares, without the error of the division."""
    return round(sum(shares), 9)


def parse_rate(text: str | bytes, replay: Replay) -> float:
    """Return the rate that an operator has set; that of the replay for a text that is not a rate."""
    try:
        rate = float(text)
    except ValueError:
        return replay.rate
    return rate if 0 < rate < inf else replay.rate


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a replay. It has read all entries up to ``cursor``."""

    replay: Replay
    state: State
    cursor: EntryId
    boundary: EntryId | None
    """Entries of the archive are read only before this one; None means all."""
    done: int
    """The number of copies."""
    rate: float
    """The copies a second that are allowed now. An operator may change it."""
    started: Act
    moved: Act
    """The last change of the state; its person is empty if a worker changed it."""
    error: str

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """Return the progress of a replay over all shards from that of its parts, one for each shard."""
        first = parts[0]
        total, rate = sum(part.replay.total for part in parts), sum_rates(part.replay.rate for part in parts)
        return replace(
            first,
            replay=replace(first.replay, total=total, rate=rate),
            state=min((part.state for part in parts), key=SHOWN_FIRST.index),
            done=sum(part.done for part in parts),
            rate=sum_rates(part.rate for part in [part for part in parts if part.state not in ENDED] or parts),
            moved=max((part.moved for part in parts), key=lambda act: act.ms),
            error="; ".join(dict.fromkeys(part.error for part in parts if part.error)),
        )

    @classmethod
    def all_from(cls, shard: int, stored: Mapping[bytes, bytes]) -> list[Self]:
        """Decode the replays of a group, the one that started last first. Replays of another version are skipped."""
        replays: list[Self] = []
        for replay_id in (name for name in stored if b":" not in name):
            with suppress(ValueError, TypeError, KeyError):
                replays.append(cls._from(shard, replay_id, stored))
        return sorted(replays, key=lambda progress: (progress.replay.started_ms, progress.replay.id), reverse=True)

    @classmethod
    def _from(cls, shard: int, replay_id: bytes, stored: Mapping[bytes, bytes]) -> Self:
        def of(name: str, default: str = "") -> str:
            return stored.get(replay_id + b":" + name.encode(), default.encode()).decode()

        replay = Replay.from_json(stored[replay_id])
        return cls(
            replay=replay,
            state=State(of("state")),
            cursor=EntryId.from_redis(shard, of("cursor")),
            boundary=EntryId.from_redis(shard, of("boundary")) if of("boundary") else None,
            done=int(of("done", "0")),
            rate=parse_rate(of("rate"), replay),
            started=Act(replay.started_ms, of("by"), of("why")),
            moved=Act(int(of("moved", str(replay.started_ms))), of("moved_by"), of("moved_why")),
            error=of("error"),
        )

    def summary(self) -> dict[str, Any]:
        """Return the fields of this replay in a listing."""
        return {
            "replay": self.replay.id,
            "group": self.replay.group,
            "state": self.state.value,
            "done": self.done,
            "total": max(self.replay.total, self.done),
            "rate": self.rate,
            "scope": self.replay.scope,
            "started": self.started.summary(),
            "moved": self.moved.summary(),
            "error": self.error or None,
        }
