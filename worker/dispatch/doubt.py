"""Calls that have ended: those that failed are held back until it is clear whether their events are at fault.

When the breaker trips they are not, and are to be made again as if nothing had been: unless a probe has succeeded just
before, for then the target was there. Of more than MOST_HELD the oldest have had their attempt, but for those whose
last one it was: nothing is given up because of what may be a target that is away.
"""

from collections import deque
from collections.abc import Callable

from worker.consumer.fetch_plan import Source
from worker.dispatch.call import Call, Limits
from worker.dispatch.circuit_breaker import Breaker
from worker.handlers.errors import at_fault

PROVEN_SECONDS = 30.0
MOST_HELD = 5000


class Doubt:
    """The calls of one handler that have ended and were not taken yet."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._breaker = Breaker(clock)
        self._proven: float | None = None
        self._held: deque[Call] = deque()  # in the order in which they have ended
        self._clear: list[Call] = []

    @property
    def calls(self) -> list[Call]:
        """All of them."""
        return [*self._clear, *self._held]

    @property
    def any_clear(self) -> bool:
        """Whether there are calls that were not held back."""
        return bool(self._clear)

    def begin(self, *, proven: bool) -> None:
        """Forget what has been. ``proven``: a probe has succeeded."""
        self._breaker.reset()
        self._proven = self._clock() if proven else None

    @property
    def tripped(self) -> bool:
        """Whether those that are held back are not at fault."""
        return bool(self._held) and (self._breaker.tripped or len(self._held) > MOST_HELD)

    def add(self, call: Call, *, counts: bool) -> None:
        """Take in a call, and whether it ``counts`` for the breaker."""
        if call.error is None and not self._breaker.failing:  # the usual case, and it shall cost nothing
            self._clear.append(call)
            return
        failed = at_fault(call.error)
        if counts and self._tells(call):
            self._breaker.note(failed=failed, events=len(call.events))
            if not self._breaker.failing:  # enough succeed, so what has failed is at fault itself
                self._clear_all()
        (self._held if failed and self._is_doubtful(call) else self._clear).append(call)
        if len(self._held) > MOST_HELD:
            self._clear_oldest()

    def _clear_all(self) -> None:
        self._clear += self._held
        self._held.clear()

    def _clear_oldest(self) -> None:
        for place, call in enumerate(self._held):
            if max(event.attempt for event in call.events) < self._limits.attempts:
                del self._held[place]
                self._clear.append(call)
                return

    def _is_doubtful(self, call: Call) -> bool:
        return self._breaker.doubtful(call.began + call.seconds)

    def _tells(self, call: Call) -> bool:
        """Whether it tells how the handler is: retries, and dead letters that are replayed, may never succeed."""
        if call.source is Source.LIVE:
            return True
        if max(event.attempt for event in call.events) > self._limits.judged_attempts:
            return False
        return call.source is not Source.REPLAY or not any(b"error" in flat[::2] for _, flat in call.entries)

    def take(self, *, all_of_them: bool) -> list[Call]:
        """Return the calls that have ended for certain."""
        while self._held and (all_of_them or not self._is_doubtful(self._held[0])):
            self._clear.append(self._held.popleft())
        clear, self._clear = self._clear, []
        return clear

    def take_failures(self) -> list[Call]:
        """Return, when the breaker has tripped, the calls that are to be made again."""
        if self._proven is not None and self._clock() - self._proven < PROVEN_SECONDS:
            self._clear_all()
            return []
        failed = [call for call in self.calls if at_fault(call.error)]
        self._clear, self._held = [call for call in self._clear if not at_fault(call.error)], deque()
        return failed

    def drop(self) -> None:
        """Forget the calls."""
        self._clear.clear()
        self._held.clear()
