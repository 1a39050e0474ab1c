"""The calls of one handler that may run at once in this process. The dispatchers of all shards share them, in turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager


class Slots:
    """As many slots as calls may run at once. A dispatcher that waits for a slot gets one before later ones do."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._turn = asyncio.Lock()
        self.one = asyncio.Semaphore(number)
        """Holds one slot while its block runs."""

    @asynccontextmanager
    async def take_all(self) -> AsyncIterator[None]:
        """Hold all slots while the block runs: no other call of the handler runs then."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._turn)  # two that hold some of them each would wait for ever
            for _ in range(self._number):
                await stack.enter_async_context(self.one)
            yield
