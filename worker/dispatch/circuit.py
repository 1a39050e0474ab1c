"""The circuit of one handler on one shard: decides whether a call may start.

No call starts while the group is paused, the target is unavailable, the breaker has just tripped, or the worker is
late with its heartbeat.
"""

import random
import time
from collections.abc import Callable

import structlog

from stream.redis.client import describe_error
from worker.dispatch.call import Call, Limits
from worker.dispatch.circuit_breaker import CircuitBreaker
from worker.dispatch.pause import Pause, PauseReason, describe_reason
from worker.handlers.errors import Gone, Unavailable, is_target_failure
from worker.metrics import HANDLER_FAILURES, TARGET_AWAY
from worker.settle.retry_policy import failure_kind
from worker.sources import Source
from worker.timing import TIMING, Timing

log = structlog.get_logger("handler")


class Circuit:
    """Records the result of each call, and opens and closes the circuit. All shards share the ``breaker``."""

    def __init__(
        self,
        group: str,
        limits: Limits,
        pause: Pause,
        *,
        is_late: Callable[[int], bool] = lambda _generation: False,
        clock: Callable[[], float] = time.monotonic,
        timing: Timing = TIMING,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self.group = group
        self._limits = limits
        self._pause = pause
        self._is_late = is_late
        self._clock = clock
        self._timing = timing
        self._breaker = breaker or CircuitBreaker(clock, timing.trip, timing.window)
        self._halt: PauseReason | None = None
        self._probe: Call | None = None
        self._probe_succeeded: bool | None = None
        self._was_paused = False
        self._unavailable: Unavailable | None = None
        self._away_until = 0.0
        self._away_seconds = timing.first_away
        self.generation = 0
        """The consumer's generation when the entries in flight were read."""
        self.allows_one_call = False
        """Whether one call must return before others start, because the target was unavailable."""
        self.latest_success: float | None = None
        """The start of the latest successful call, by the clock; None without one."""

    @property
    def can_start(self) -> bool:
        """Whether a call may start. The dispatcher asks before each call."""
        if self._halt is not None or self.is_paused or self._is_late(self.generation):
            return False
        return self._unavailable is None or self._clock() >= self._away_until

    @property
    def is_target_away(self) -> bool:
        """Whether the latest call or check found the target away."""
        return self._unavailable is not None

    @property
    def is_paused(self) -> bool:
        """Whether the group is paused."""
        return self._pause.reason is not None

    @property
    def not_ready_reason(self) -> str | None:
        """Why the group's events are not handled, for `/ready`; None if they are."""
        if self._pause.reason is not None:
            return f"group {self.group} is paused: {describe_reason(self._pause.reason)}"
        if self._unavailable is not None:
            if self.group == "store":  # these texts hold no private values, and give the next step
                return f"group store waits for its database: {self._unavailable}"
            return f"group {self.group} waits for its target: {describe_error(self._unavailable)}"
        return None

    def record(self, call: Call) -> bool:
        """Record a call that has ended. Return whether to repeat it, because it does not count as an attempt."""
        failed = call.error is not None and is_target_failure(call.error)
        if call is self._probe:
            self._probe, self._probe_succeeded = None, not failed
        if isinstance(call.error, Gone):
            self._halt = PauseReason.GONE
            return True
        if isinstance(call.error, Unavailable):
            if not self.is_paused:
                self._wait_for_target(call.error)
            return True
        self._note_target(None)
        self._away_seconds, self.allows_one_call = self._timing.first_away, False
        if call.error is None:
            self.latest_success = max(self.latest_success or call.started, call.started)
        if (failed or self._breaker.counts_failures) and not self.is_paused and self._counts(call):
            self._breaker.record(failed=failed, events=len(call.events))
            self._check_breaker()
        return False

    def record_check(self, error: Unavailable | None) -> None:
        """Record whether the target can take events, as a check found while no call ran."""
        self._note_target(error)
        if error is None:
            self._away_seconds = self._timing.first_away

    async def apply(self) -> None:
        """Apply pause and resume: publish the results of this worker, and adopt those of others. Raises RedisError."""
        self._follow_pause()
        self._check_breaker()
        if self._halt is not None:
            await self._pause.start(self._halt)
            self._halt = None
        if self._probe_succeeded is not None:
            await (self._pause.end(PauseReason.FAILING) if self._probe_succeeded else self._pause.note_failed_probe())
            self._probe_succeeded = None
        self._follow_pause()

    async def take_probe(self, consumer: str) -> bool:
        """Take the turn to make one call while the group is paused; False if not possible. Raises RedisError."""
        if (
            self._probe is not None
            or self._probe_succeeded is not None
            or not self.is_paused
            or self._is_late(self.generation)
        ):
            return False
        return await self._pause.take_probe(self._limits.timeout_seconds, consumer)

    def start_probe(self, call: Call) -> None:
        """Use this call as the probe."""
        self._probe = call

    def drop(self, *, is_checked: bool = False) -> None:
        """Forget the calls, and that one of them found the target away: none waits for it any more.

        If a check follows (``is_checked``), it says whether the target is still away.
        """
        if self.allows_one_call and not is_checked:
            self._note_target(None)
        self._halt = self._probe = self._probe_succeeded = None
        self.allows_one_call = False

    def _note_target(self, error: Unavailable | None) -> None:
        if error is not None or self._unavailable is not None:
            TARGET_AWAY.labels(self.group).set(error is not None)
        self._unavailable = error

    def _follow_pause(self) -> None:
        if self._was_paused and not self.is_paused:  # a probe succeeded, or an operator resumed the group
            self._breaker.reset()
            self.allows_one_call = True
        self._was_paused = self.is_paused

    def _check_breaker(self) -> None:
        if self._halt is None and not self.is_paused and self._breaker.is_tripped:
            self._halt = PauseReason.FAILING

    def _wait_for_target(self, error: Unavailable) -> None:
        if self._unavailable is None or self._clock() >= self._away_until:  # only once for calls that fail together
            HANDLER_FAILURES.labels(self.group, failure_kind(error)).inc()
            log.warning("handler.unavailable", group=self.group, error=describe_error(error))
            jitter = random.uniform(0.5, 1)  # noqa: S311 - jitter
            self._away_until = self._clock() + self._away_seconds * jitter
            self._away_seconds = min(2 * self._away_seconds, self._timing.longest_away)
        self._note_target(error)
        self.allows_one_call = True

    def _counts(self, call: Call) -> bool:
        """Whether the breaker counts this call: later retries and replayed dead letters may never succeed."""
        if call.source is Source.LIVE:
            return True
        if max(event.attempt for event in call.events) > self._limits.judged_attempts:
            return False
        return call.source is not Source.REPLAY or not any(b"error" in flat[::2] for _, flat in call.entries)
