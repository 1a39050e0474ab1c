"""``python -m tests.chaos.broken_worker …``: `ackstream …` with a store that returns before it has written.

A control run uses it: the checker must see the loss.
"""

import asyncio
from collections.abc import Sequence

from console.__main__ import main
from worker.events.event import StatusEvent
from worker.store.handler import Store

LATE_SECONDS = 0.5

_store = Store.handle
_storing: set[asyncio.Task[None]] = set()


async def _handle(self: Store, events: Sequence[StatusEvent]) -> None:
    async def later() -> None:
        await asyncio.sleep(LATE_SECONDS)
        await _store(self, events)

    task = asyncio.create_task(later())
    _storing.add(task)
    task.add_done_callback(_storing.discard)


if __name__ == "__main__":
    Store.handle = _handle  # type: ignore[method-assign]
    main()
