"""The slots of a handler: shared in turn, and all of them for entries that are handled alone."""

import asyncio

from tests.support.waiting import until
from worker.dispatch.slots import Slots


async def test_two_dispatchers_take_turns() -> None:
    """One that takes its slot again and again gives the other one every second turn."""
    slots, turns = Slots(1), list[str]()

    async def work(name: str) -> None:
        for _ in range(5):
            async with slots.one:
                turns.append(name)
                await asyncio.sleep(0)

    await asyncio.gather(work("a"), work("b"))

    assert turns == ["a", "b"] * 5


async def test_all_slots_are_held_by_one() -> None:
    """One that takes all slots waits for running calls; two of them come one after the other, alone."""
    slots, running, alone = Slots(2), set[str](), list[set[str]]()
    release = asyncio.Event()

    async def call() -> None:
        async with slots.one:
            running.add("call")
            await release.wait()
            running.discard("call")

    async def isolate(name: str) -> None:
        async with slots.take_all():
            running.add(name)
            await asyncio.sleep(0)
            alone.append(set(running))
            running.discard(name)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(call())
        await until(lambda: _is(bool(running)))
        for name in ("first", "second"):
            tasks.create_task(isolate(name))
        for _ in range(10):
            await asyncio.sleep(0)
        assert alone == []
        release.set()

    assert alone == [{"first"}, {"second"}]


async def _is(holds: bool) -> bool:
    return holds
