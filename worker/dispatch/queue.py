"""The waiting calls of one handler: three live calls, then one retry or replay. No I/O."""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable

from worker.dispatch.call import Call
from worker.sources import Source

LIVE_IN_A_ROW = 3
"""After this many live calls the queue returns one retry or replay, if one waits."""


class CallQueue:
    """The queue of one handler. It returns no live call while ``blocks_live`` returns True."""

    def __init__(self, blocks_live: Callable[[], bool] = lambda: False) -> None:
        self._blocks_live = blocks_live
        self._live: deque[Call] = deque()
        self._copies: deque[Call] = deque()
        self._in_a_row = 0

    def __len__(self) -> int:
        """Return how many calls can be taken."""
        return len(self._copies) + (0 if self._blocks_live() else len(self._live))

    @property
    def calls(self) -> list[Call]:
        """All waiting calls, including blocked live ones."""
        return [*self._live, *self._copies]

    @property
    def has_live(self) -> bool:
        """Whether a live call waits and can be taken."""
        return bool(self._live) and not self._blocks_live()

    @property
    def copy_events(self) -> int:
        """How many events of retries and replays wait."""
        return sum(len(call.events) for call in self._copies)

    def count(self) -> Counter[Source]:
        """Count the waiting entries of each stream."""
        counts: Counter[Source] = Counter()
        for call in self.calls:
            counts[call.source] += len(call.entries)
        return counts

    def put(self, calls: Iterable[Call]) -> None:
        """Append calls."""
        for call in calls:
            self._of(call).append(call)

    def put_back(self, *calls: Call) -> None:
        """Insert calls before all others, in their order."""
        for call in reversed(calls):
            self._of(call).appendleft(call)

    def take(self) -> Call | None:
        """Return the next call; None if no call can be taken."""
        if self.has_live and (not self._copies or self._in_a_row < LIVE_IN_A_ROW):
            self._in_a_row = self._in_a_row + 1 if self._copies else 0
            return self._live.popleft()
        self._in_a_row = 0
        return self._copies.popleft() if self._copies else None

    def take_newest(self) -> Call | None:
        """Return a call with the newest event without a failed attempt, else any call; None if no call waits."""
        newest = next((call for call in reversed(self._copies) if max(e.attempt for e in call.events) == 1), None)
        if self._live:
            call = self._live.pop()
        elif newest is not None or self._copies:
            call = newest or random.choice(self._copies)  # noqa: S311 - no secret
            self._copies.remove(call)
        else:
            return None
        if len(call.events) > 1:
            self._of(call).append(call.part(0, -1))
            return call.part(-1)
        return call

    def clear(self) -> None:
        """Forget all calls."""
        self._live.clear()
        self._copies.clear()

    def close(self) -> None:
        """Forget all calls, and from now on each call that is put."""
        self._live = self._copies = deque(maxlen=0)

    def _of(self, call: Call) -> deque[Call]:
        return self._live if call.source is Source.LIVE else self._copies
