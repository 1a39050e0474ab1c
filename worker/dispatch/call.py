"""One call of a handler: the events it receives together, and the result."""

import asyncio
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from runtime.process import is_forked
from worker.events.event import StatusEvent
from worker.sources import Source


class Handler(Protocol):
    """The handler of a group. It may receive an event again, and must then have the same effect."""

    def alone(self, event: StatusEvent) -> bool:
        """Whether this event needs a call of its own instead of a list with others of its batch."""

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Return once the effect is durable. An error applies to all these events (worker.handlers.errors).

        The handler itself must end within ``Limits.timeout_seconds``, for example by raising TimedOut.
        """


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one handler."""

    concurrency: int = 1
    """How many calls run at once."""
    timeout_seconds: float = 60.0
    batch_entries: int = 4000
    """The maximum of entries in one read and in one list."""
    attempts: int = 24
    """An event is dead-lettered after this many attempts."""
    judged_attempts: int = 2
    """The breaker counts attempts up to this one: 1, or 2 for lists, whose events are retried one by one."""


@dataclass(slots=True, eq=False)
class Call:
    """Events of one stream that a handler receives together, their entries, and the error if the call failed."""

    source: Source
    entries: Sequence[tuple[bytes, list[bytes]]]
    events: Sequence[StatusEvent]
    started: float = 0.0
    seconds: float = 0.0
    error: BaseException | None = None

    def part(self, start: int, end: int | None = None) -> "Call":
        """Return a new call with some of the events."""
        return Call(self.source, self.entries[start:end], self.events[start:end])


def split_by_handler(handler: Handler, call: Call) -> list[Call]:
    """Return the calls for events that were read together: single events alone, the others in one list."""
    alone = [place for place, event in enumerate(call.events) if handler.alone(event)]
    if not alone:
        return [call] if call.events else []
    single = [call.part(place, place + 1) for place in alone]
    if len(alone) == len(call.events):
        return single
    together = [place for place, event in enumerate(call.events) if not handler.alone(event)]
    entries = [call.entries[place] for place in together]
    return [Call(call.source, entries, [call.events[place] for place in together]), *single]


async def call_handler(
    handler: Handler, events: Sequence[StatusEvent], task: asyncio.Task[Any], dropped: Collection[asyncio.Task[Any]]
) -> BaseException | None:
    """Return the handler's error, of any class; None without one. Raises CancelledError if the ``task`` is dropped.

    A handler may cancel its own task. That fails these events only: the task is not cancelled any more afterwards.
    A handler may fork, and its child may return here: it ends, because its parent settles these events.
    """
    error = None
    try:
        await handler.handle(events)
    except BaseException as exc:
        if not task.get_loop().is_running() or (task in dropped and isinstance(exc, asyncio.CancelledError)):
            raise  # the call is dropped, or the loop has ended, and Python closes this coroutine
        error = exc
    if is_forked():
        os._exit(error is not None)
    if task.cancelling() and task not in dropped:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)  # a cancellation that has not arrived yet would hit the next call
        while task.uncancel():
            pass
    return error
