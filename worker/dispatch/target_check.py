"""Checks the target of a quiet group, so that `/ready` names a target that is away although no event has come.

A check counts neither as an attempt nor as a failure of the handler. A call never waits for it: new
events end the check.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from stream.redis.client import describe_error
from worker.dispatch.circuit import Circuit
from worker.handlers.errors import Unavailable
from worker.timing import TIMING, Timing

log = structlog.get_logger("handler")

LIMIT_SECONDS = 5.0

Check = Callable[[], Awaitable[None]]
"""Returns if the target of a handler can take events, and otherwise raises Unavailable or another error."""


class TargetCheck:
    """The check of one group's target, for its ``circuits`` on all shards. Without a ``check`` it does nothing.

    The circuits of shards that come later need no check before their first call. All shards have the same target, so
    one of them ``repeats`` the check. Each of the others checks it only after it has dropped calls that waited for it.
    """

    def __init__(
        self,
        check: Check | None,
        circuits: Sequence[Circuit],
        timing: Timing = TIMING,
        clock: Callable[[], float] = time.monotonic,
        limit_seconds: float = LIMIT_SECONDS,
        *,
        repeats: bool = True,
    ) -> None:
        self._check = check
        self._circuits = circuits
        self._quiet_seconds = timing.quiet
        self._clock = clock
        self._limit_seconds = limit_seconds
        self._repeats = repeats
        self._due = -math.inf if repeats else math.inf
        self._limit: asyncio.Timeout | None = None
        self._is_away = False
        if check is not None and repeats:
            for circuit in circuits:
                circuit.record_check(Unavailable("not checked yet"))

    def postpone(self) -> None:
        """Note that the group has events: end a running check, and check again once the group has been quiet."""
        self._due = self._clock() + self._quiet_seconds if self._repeats or self._is_away else math.inf
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(0)
        self._limit = None

    def hasten(self) -> bool:
        """Let the next check be due at once, because the calls were dropped. Return whether there is a check."""
        if self._repeats or any(circuit.is_target_away for circuit in self._circuits):
            self._due = -math.inf
        return self._check is not None

    async def run(self) -> None:
        """Check the target if that is due. The group must have no call."""
        if self._check is None or self._clock() < self._due:
            return
        error: Unavailable | None = None
        try:
            async with asyncio.timeout(self._limit_seconds) as limit:
                self._limit = limit
                await self._check()
        except TimeoutError:
            error = Unavailable(f"no answer within {self._limit_seconds:g} s")
        except Exception as exc:  # noqa: BLE001 - each error of the check says that the target cannot take events
            error = exc if isinstance(exc, Unavailable) else Unavailable(describe_error(exc))
        if self._limit is limit:  # else a call reports the state of the target
            self._limit = None
            self._record(error)
            self.postpone()

    def _record(self, error: Unavailable | None) -> None:
        if error is not None and not self._is_away:
            log.warning("handler.unavailable", group=self._circuits[0].group, error=describe_error(error))
        self._is_away = error is not None
        for circuit in self._circuits:
            circuit.record_check(error)
