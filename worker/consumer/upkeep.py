"""The upkeep of one group, once a second: checkpoint, due retries, pause, backlog and latest success."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from worker.dispatch.backlog import Backlog
from worker.dispatch.circuit import Circuit
from worker.dispatch.pause import Pause
from worker.group.consumer_group import ConsumerGroup
from worker.settle.delayed import DelayedRetries
from worker.settle.settler import Settler
from worker.timing import TIMING, Timing


@dataclass(frozen=True, slots=True)
class Upkeep:
    """The objects of one group that need upkeep, on one shard.

    ``find_shards`` reads the layout, and ``refreshes`` says whether this shard's consumer refreshes the pause and the
    backlog, which the consumers of all shards share.
    """

    group: ConsumerGroup
    delayed: DelayedRetries
    pause: Pause
    backlog: Backlog
    circuit: Circuit
    settler: Settler
    find_shards: Callable[[], Awaitable[None]]
    latest_success: Callable[[], float | None]
    refreshes: bool = True
    timing: Timing = TIMING

    @property
    def steps(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """The steps of the upkeep. Each runs in a loop of its own and raises RedisError."""
        steps = (self.group.save_checkpoint, self.delayed.promote, self.note_success)
        return (*steps, self.refresh) if self.refreshes else steps

    @property
    def not_ready_reason(self) -> str | None:
        """Why some of the group's events are not handled; None if all are."""
        return self.circuit.not_ready_reason or self.backlog.not_ready_reason

    async def refresh(self) -> None:
        """Read whether the group is paused, and measure its backlog. Raises RedisError."""
        await self.pause.refresh()
        await self.backlog.measure()

    async def note_success(self) -> None:
        """Publish the start of the latest successful call to the group's other workers. Raises RedisError."""
        await self.settler.note_success(self.latest_success())
