"""What a consumer does once a second beside its loop: checkpoint, due retries, pause, backlog, latest success."""

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
    """The parts of one group that need it."""

    group: ConsumerGroup
    delayed: DelayedRetries
    pause: Pause
    backlog: Backlog
    circuit: Circuit
    settler: Settler
    timing: Timing = TIMING

    @property
    def steps(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """The steps, each of which may fail without the others; each raises RedisError."""
        return self.group.save_checkpoint, self.delayed.promote, self.refresh, self.note_success

    @property
    def not_ready_reason(self) -> str | None:
        """Why the group's events are not all being handled; None if they are."""
        return self.circuit.not_ready_reason or self.backlog.not_ready_reason

    async def refresh(self) -> None:
        """See whether the group is paused, and how much it has delayed and dead-lettered. Raises RedisError."""
        await self.pause.refresh()
        await self.backlog.measure()

    async def note_success(self) -> None:
        """Let the group's other workers know when the latest call began that succeeded. Raises RedisError."""
        await self.settler.note_success(self.circuit.succeeded_seconds_ago)
