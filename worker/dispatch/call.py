"""A call of a handler: which events are handed over together, and what came of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.events.event import StatusEvent
from worker.sources import Source


class Handler(Protocol):
    """What a group does with its events. It may see an event again, and must then come to the same effect."""

    def alone(self, event: StatusEvent) -> bool:
        """Whether this event is handed over by itself, not in one list with others of its batch."""

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Return when the effect is there to stay. Whatever is raised is about all these events (worker.outcome).

        It ends within ``Limits.timeout_seconds`` by itself, for example by raising TimedOut.
        """


@dataclass(frozen=True, slots=True)
class Limits:
    """What a handler may take."""

    concurrency: int = 1
    """How many calls run at once."""
    timeout_seconds: float = 60.0
    batch_entries: int = 4000
    """How many entries, at most, are read at once and handed over in one list."""
    attempts: int = 24
    """After how many an event is given up."""
    judged_attempts: int = 2
    """Up to which attempt calls tell how the handler is: 1, or 2 where what fails in a list comes alone after that."""


@dataclass(slots=True, eq=False)
class Call:
    """Events that are handed over together, with their entries, all of one stream; and why they failed, if they did."""

    source: Source
    entries: Sequence[tuple[bytes, list[bytes]]]
    events: Sequence[StatusEvent]
    started: float = 0.0
    seconds: float = 0.0
    error: BaseException | None = None

    def part(self, start: int, end: int | None = None) -> "Call":
        """Return a call of its own for some of the events."""
        return Call(self.source, self.entries[start:end], self.events[start:end])


def split_by_handler(handler: Handler, call: Call) -> list[Call]:
    """Return the calls to make for what was read together."""
    alone = [place for place, event in enumerate(call.events) if handler.alone(event)]
    if not alone:
        return [call] if call.events else []
    apart = [call.part(place, place + 1) for place in alone]
    if len(alone) == len(call.events):
        return apart
    together = [place for place, event in enumerate(call.events) if not handler.alone(event)]
    entries = [call.entries[place] for place in together]
    return [Call(call.source, entries, [call.events[place] for place in together]), *apart]
