"""A replay: what somebody wants a group to be given again, and how far that is. No I/O."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import orjson

from stream.entry import EntryId
from worker.replay.entry_filter import EntryFilter


class Place(StrEnum):
    """Where the entries are looked for."""

    STREAM = "stream"
    ARCHIVE = "archive"
    """In the archive, and on the stream from where that begins."""
    DEAD = "dead"
    """Among the group's dead letters, from where each goes when its copy is made."""


class State(StrEnum):
    """Running, or why not."""

    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    """It cannot go on as things are; ``error`` says why. It may be resumed."""
    CANCELLED = "cancelled"
    DONE = "done"


ENDED = (State.CANCELLED, State.DONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What is wanted. Entries after ``begin`` up to ``end``, both in Redis's form, are looked at."""

    id: str
    group: str
    place: Place
    selection: EntryFilter
    rate: float
    """Copies a second."""
    begin: str
    end: str
    total: int
    """How many entries were found when it was planned."""
    started_ms: int

    @property
    def hold(self) -> str:
        """The consumer group that keeps the stream from being trimmed beyond what is copied; no handler is named so."""
        return "" if self.place is Place.DEAD else f"replay/{self.id}"

    @property
    def scope(self) -> str:
        """Say in words what it is of."""
        where = {Place.STREAM: "", Place.ARCHIVE: "with the archive: ", Place.DEAD: "dead letters: "}
        return where[self.place] + self.selection.scope

    def to_json(self) -> bytes:
        """Encode. ``from_json`` gives back an equal one."""
        given = {name: getattr(self, name) for name in self.__slots__ if name != "selection"}
        return orjson.dumps({**given, "selection": self.selection.to_json()})

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Decode. Raises ValueError, TypeError or KeyError for anything else."""
        given = orjson.loads(text)
        selection = EntryFilter.from_json(given.pop("selection"))
        return cls(**{**given, "place": Place(given["place"])}, selection=selection)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is. All entries up to ``cursor`` have been looked at."""

    replay: Replay
    state: State
    cursor: EntryId
    boundary: EntryId | None
    """Of the archive's entries those before this one are looked at; None: all."""
    done: int
    """How many copies were made."""
    error: str

    @classmethod
    def all_from(cls, shard: int, stored: Mapping[bytes, bytes]) -> list[Self]:
        """Take what is kept of a group's replays; the one that was started last comes first.

        What cannot be read, for another version wrote it, is left to that.
        """
        found: list[Self] = []
        for replay_id in (name for name in stored if b":" not in name):
            with suppress(ValueError, TypeError, KeyError):
                found.append(cls._from(shard, replay_id, stored))
        return sorted(found, key=lambda one: (one.replay.started_ms, one.replay.id), reverse=True)

    @classmethod
    def _from(cls, shard: int, replay_id: bytes, stored: Mapping[bytes, bytes]) -> Self:
        def of(name: str, default: str = "") -> str:
            return stored.get(replay_id + b":" + name.encode(), default.encode()).decode()

        return cls(
            replay=Replay.from_json(stored[replay_id]),
            state=State(of("state")),
            cursor=EntryId.from_redis(shard, of("cursor")),
            boundary=EntryId.from_redis(shard, of("boundary")) if of("boundary") else None,
            done=int(of("done", "0")),
            error=of("error"),
        )

    def summary(self) -> dict[str, Any]:
        """Return the line of a listing."""
        return {
            "replay": self.replay.id,
            "group": self.replay.group,
            "state": self.state.value,
            "done": self.done,
            "total": max(self.replay.total, self.done),
            "rate": self.replay.rate,
            "scope": self.replay.scope,
            "error": self.error or None,
        }
