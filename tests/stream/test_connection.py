import asyncio

from redis.asyncio import Redis


async def test_a_cancellation_is_never_lost(server: Redis) -> None:
    """A task ends after one cancellation at any step of a command."""

    async def ask_for_ever() -> None:
        while True:
            await server.ping()

    for steps in range(200):
        asking = asyncio.create_task(ask_for_ever())
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking], timeout=1)
        assert asking.cancelled()
