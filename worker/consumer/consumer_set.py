"""The consumers of a worker: one for each group and shard, so that a large backlog on one shard delays no other."""

import asyncio
from collections.abc import Callable, Sequence

from runtime.tasks import cancel_and_wait
from stream.keys import Shard
from stream.shard_watch import ShardWatch
from worker.consumer.consumer import LEAVE_SECONDS, Consumer


class ConsumerSet:
    """Runs the consumers of all shards. ``make`` returns those of one shard, one for each group."""

    def __init__(self, make: Callable[[Shard], Sequence[Consumer]]) -> None:
        self._make = make
        self._consumers: list[Consumer] = []

    @property
    def not_ready_reason(self) -> str | None:
        """Why some groups are not being consumed right now, a line for each reason; None if all are."""
        reasons = (consumer.not_ready_reason for consumer in self._consumers)
        return "\n".join(dict.fromkeys(filter(None, reasons))) or None

    async def run(self, watch: ShardWatch, stop: asyncio.Event, grace_seconds: float) -> None:
        """Run them until ``stop``, then let them finish for at most ``grace_seconds`` and hand over the rest."""
        async with asyncio.TaskGroup() as tasks:
            loops: list[asyncio.Task[None]] = []
            upkeep: list[asyncio.Task[None]] = []

            def start(shard: Shard) -> None:
                consumers = self._make(shard)
                self._consumers.extend(consumers)
                loops.extend(tasks.create_task(consumer.run(stop)) for consumer in consumers)
                upkeep.extend(tasks.create_task(loop) for consumer in consumers for loop in consumer.upkeep)

            with watch.start_each(start):
                await stop.wait()
            await asyncio.wait(loops, timeout=grace_seconds / 2)
            for consumer in self._consumers:
                consumer.close()
            await asyncio.wait(loops, timeout=grace_seconds / 2)
            for loop in loops:
                loop.cancel()  # once, so that handlers can clean up
            await asyncio.wait(loops, timeout=LEAVE_SECONDS)
            await cancel_and_wait((*loops, *upkeep))
        await asyncio.gather(*(consumer.leave() for consumer in self._consumers))
