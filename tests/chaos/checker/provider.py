"""The load. It acts like the provider: it repeats each request without a 200, and sends some messages twice."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from tests.chaos.checker import payloads
from tests.chaos.checker.history import History

IN_FLIGHT = 256
ANSWER_SECONDS = 5.0
TWICE_SHARE = 0.05
AGAIN_SECONDS = (0.25, 2.0)
"""The first and the longest delay before a repetition; it doubles. The provider waits 5 s to 15 min."""
ATTEMPTS = 50
"""The most attempts for a message; the provider gives up after 24 h."""
TICK_SECONDS = 0.01

KEPT, BUSY, NONE = "200", "503", "none"


@dataclass(slots=True)
class LoadTally:
    """The counts of a load."""

    sent: int = 0
    answers: dict[str, int] = field(default_factory=Counter)
    """Requests by answer; `none` means no answer in time or a broken connection."""
    spooled: int = 0
    """Entries that went to a spool, by the metrics of ingest; a killed process may have spooled a few more."""
    given_up: int = 0
    """Messages never answered 200 in all attempts."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    slowest_ms: float = 0.0
    """The times are those of the requests answered 200."""


class Provider:
    """Sends a load to several ingest processes, each request to a random process."""

    def __init__(self, http: aiohttp.ClientSession, urls: Sequence[str], history: History, rng: random.Random) -> None:
        self._http = http
        self._urls = urls
        self._history = history
        self._rng = rng
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)
        self._seconds: list[float] = []
        self.tally = LoadTally()

    async def send(self, message_ids: Sequence[str], rate: float) -> LoadTally:
        """Send all at this rate a second, independently of the answers; return when each is stored or given up."""
        began = time.monotonic()
        self.tally.sent = len(message_ids)
        async with asyncio.TaskGroup() as tasks:
            for number, message_id in enumerate(message_ids):
                while (due := began + number / rate) > time.monotonic():
                    await asyncio.sleep(max(TICK_SECONDS, due - time.monotonic()))
                tasks.create_task(self._deliver(message_id))
        self._measure()
        return self.tally

    async def _deliver(self, message_id: str) -> None:
        """Send the message until the answer is 200, and sometimes once more."""
        body, delay = payloads.body(message_id), AGAIN_SECONDS[0]
        for _ in range(ATTEMPTS):
            if await self._post(body) == KEPT:
                break
            await asyncio.sleep(delay * self._rng.uniform(0.5, 1.0))
            delay = min(2 * delay, AGAIN_SECONDS[1])
        else:
            self.tally.given_up += 1
            return
        self._history.add(message_id)
        if self._rng.random() < TWICE_SHARE:
            await asyncio.sleep(self._rng.uniform(0.0, AGAIN_SECONDS[1]))
            await self._post(body)

    async def _post(self, body: bytes) -> str:
        async with self._in_flight:
            began = time.monotonic()
            try:
                async with self._http.post(self._rng.choice(self._urls), data=body) as response:
                    answer = str(response.status)
            except (aiohttp.ClientError, TimeoutError):
                answer = NONE
            if answer == KEPT:
                self._seconds.append(time.monotonic() - began)
        self.tally.answers[answer] = self.tally.answers.get(answer, 0) + 1
        return answer

    def _measure(self) -> None:
        if self._seconds:
            ordered = sorted(self._seconds)
            at = [ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99, 1.0)]
            self.tally.p50_ms, self.tally.p99_ms, self.tally.slowest_ms = (round(1000 * seconds, 1) for seconds in at)


def open_session() -> aiohttp.ClientSession:
    """Open the provider's connections."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        headers={"Content-Type": "application/json"},
        connector=aiohttp.TCPConnector(limit=IN_FLIGHT),
    )
