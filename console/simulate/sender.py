"""How ``ackstream simulate`` sends: webhooks over HTTP at a steady rate, with the provider's time limit; a report."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import aiohttp
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from console.simulate.messages import Webhook
from runtime.errors import Refusal

ANSWER_SECONDS = 15.0
"""The provider waits this long for an answer, connecting included."""
NO_ANSWER = "no answer"

_CATCH_UP_SECONDS = 1.0
_HEADERS = {"Content-Type": "application/json", "User-Agent": "ackstream-simulate"}


@dataclass(frozen=True, slots=True)
class LatencyMs:
    """Milliseconds from sending a webhook to the end of its answer. The percentiles are at most 1 % too high."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the webhooks.

    ``answered`` counts them by status code, or ``no answer`` (not connected, cut off, or later than ANSWER_SECONDS);
    together that is ``sent``. ``rate`` is webhooks a second over ``seconds``. ``latency_ms`` is of those that were
    answered, whatever the code; None if none was.
    """

    sent: int
    answered: dict[str, int]
    seconds: float
    rate: float
    latency_ms: LatencyMs | None

    def as_dict(self) -> dict[str, Any]:
        """Return the report as what JSON can hold, under the fields' names."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return orjson.dumps(self.as_dict()).decode()


class Latencies:
    """Milliseconds counted in classes 1 % wide, so that any number of them takes the same memory."""

    _WIDTH = math.log(1.01)
    _LEAST_MS = 0.001

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._max = 0.0

    def add(self, ms: float) -> None:
        """Count one."""
        self._counts[math.ceil(math.log(max(ms, self._LEAST_MS)) / self._WIDTH)] += 1
        self._max = max(self._max, ms)

    def summary(self) -> LatencyMs | None:
        """Return the percentiles; None if there are none."""
        if not self._counts:
            return None
        return LatencyMs(self._percentile(0.5), self._percentile(0.9), self._percentile(0.99), round(self._max, 3))

    def _percentile(self, share: float) -> float:
        wanted, seen = math.ceil(share * self._counts.total()), 0
        for number in sorted(self._counts):
            seen += self._counts[number]
            if seen >= wanted:
                return round(min(math.exp(number * self._WIDTH), self._max), 3)
        return round(self._max, 3)


class Pace:
    """When each webhook is due: the n-th never before (n - 1) / rate seconds. Without a rate, at once.

    Who falls behind catches up by at most what one second holds.
    """

    def __init__(self, rate: float | None, now: float) -> None:
        self._interval_seconds = 1 / rate if rate else 0.0
        self._due = now - self._interval_seconds

    def delay_seconds(self, now: float) -> float:
        """Return how long the next webhook has to wait; each call is for one more."""
        self._due = max(self._due + self._interval_seconds, now - _CATCH_UP_SECONDS)
        return max(self._due - now, 0.0)


class Provider:
    """Sends webhooks and counts the answers."""

    def __init__(self, session: aiohttp.ClientSession, url: str, pace: Pace, progress: Callable[[], None]) -> None:
        self._session = session
        self._url = url
        self._pace = pace
        self._progress = progress
        self._answered: Counter[str] = Counter()
        self._latencies = Latencies()

    async def send(self, webhooks: Iterator[Webhook]) -> None:
        """Send each webhook when it is due, one after the other. Calls at the same time share ``webhooks``."""
        for webhook in webhooks:
            if delay_seconds := self._pace.delay_seconds(perf_counter()):
                await asyncio.sleep(delay_seconds)
            self._answered[await self._post(webhook.body)] += 1
            self._progress()

    def report(self, seconds: float) -> Report:
        """Return the counts of what took so many seconds."""
        sent = self._answered.total()
        answered = dict(sorted(self._answered.items()))
        rate = sent / seconds if sent else 0.0
        return Report(sent, answered, round(seconds, 3), round(rate, 3), self._latencies.summary())

    async def _post(self, body: bytes) -> str:
        began = perf_counter()
        try:
            async with self._session.post(self._url, data=body, headers=_HEADERS, allow_redirects=False) as answer:
                async for _ in answer.content.iter_any():
                    pass  # the answer's end frees the connection; what it says does not matter
        except (aiohttp.ClientError, TimeoutError, OSError):
            return NO_ANSWER
        self._latencies.add((perf_counter() - began) * 1000)
        return str(answer.status)


async def send(
    webhooks: Iterable[Webhook],
    url: str,
    *,
    rate: float | None,
    connections: int = 32,
    progress: Callable[[], None],
) -> Report:
    """POST each webhook once, in their order, and report; a request that fails is counted, never raised.

    The provider would send again after 429 and 5xx; this form only counts them.

    ``rate``, more than 0, is in webhooks a second; None sends as fast as the connections allow. At most
    ``connections`` (1 or more) are in flight, each for at most ANSWER_SECONDS. ``progress`` is called after each.
    Takes the same memory for any number of webhooks, which may be a generator. Raises Refusal if ``url`` is not http.
    """
    if not url.startswith(("http://", "https://")):
        raise Refusal("the URL to send to must begin with http:// or https://")
    began = perf_counter()
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
    ) as session:
        provider = Provider(session, url, Pace(rate, began), progress)
        queue = iter(webhooks)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(provider.send(queue))
        return provider.report(perf_counter() - began)


class SpeedColumn(ProgressColumn):
    """Webhooks a second, as they were lately."""

    def render(self, task: Task) -> Text:
        """Return the speed as text."""
        return Text(f"{task.finished_speed or task.speed or 0.0:,.0f}/s", style="progress.data.speed")


async def simulate(
    webhooks: Collection[Webhook],
    url: str,
    *,
    rate: float | None,
    connections: int,
    console: Console,
) -> Report:
    """Send as ``send`` does and show a progress bar with rate and time left on ``console``: one of standard error."""
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), SpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        sending = bar.add_task("", total=len(webhooks))
        return await send(webhooks, url, rate=rate, connections=connections, progress=lambda: bar.advance(sending))
