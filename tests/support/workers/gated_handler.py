"""A handler whose calls wait until the test opens their gate, and the dispatchers that call it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from tests.support.samples.events import body, event
from worker.dispatch.call import Call
from worker.dispatch.dispatcher import Dispatcher
from worker.events.event import StatusEvent
from worker.sources import Source

DispatcherFactory = Callable[..., Awaitable[Dispatcher]]


class GatedHandler:
    """A handler in which each event waits for its gate, and then raises the error set for it."""

    def __init__(self, *, alone: Callable[[StatusEvent], bool] = lambda _event: True) -> None:
        self._alone = alone
        self.began: list[list[str]] = []
        self.running = 0
        self.most = 0
        self.errors: dict[str, BaseException] = {}
        self.deaf = False
        self.shut: set[str] = set()
        self.opened = asyncio.Event()

    def alone(self, event: StatusEvent) -> bool:
        return self._alone(event)

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        ids = [event.message_uuid for event in events]
        self.began.append(ids)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            while self.shut & set(ids):
                await self._wait()
        finally:
            self.running -= 1
        for message_uuid in ids:
            if message_uuid in self.errors:
                raise self.errors[message_uuid]

    async def _wait(self) -> None:
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            if not self.deaf:
                raise

    def open(self, *ids: str) -> None:
        self.shut -= set(ids)
        self.opened.set()
        self.opened = asyncio.Event()


def make_call(*ids: str, attempt: int | None = None, source: Source = Source.LIVE) -> Call:
    """Return a call with entries of these messages."""
    events = [event(body(message_uuid=message_uuid), attempt=attempt) for message_uuid in ids]
    return Call(source, [(message_uuid.encode(), []) for message_uuid in ids], events)


async def run_until_idle(calls: Dispatcher) -> list[Call]:
    """Run the dispatcher until it is idle, and return all ended calls."""
    ended = []
    while calls.is_busy:
        await calls.step()
        ended += calls.take()
    return ended
