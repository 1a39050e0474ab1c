"""Send webhooks over HTTP at a steady rate, with the provider's time limit and repeats."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from time import perf_counter
from typing import Any

import aiohttp

from console.simulate.latencies import Latencies
from console.simulate.messages import SimulatedWebhook
from console.simulate.report import Report
from runtime.errors import CommandError, WrongValue
from stream.http_url import check_http_url

ANSWER_SECONDS = 15.0
"""The time that the provider waits for a connection and a response."""
NO_ANSWER = "no answer"
FIRST_REPEAT_SECONDS = 5.0
"""After 429 or 5xx the provider repeats: after 5 s, and then each time after twice the delay."""
LONGEST_REPEAT_SECONDS = 900.0
MOST_REPEATS = 10_000
"""The most webhooks that wait for a repeat; beyond that, refused webhooks are not repeated."""

_POLL_SECONDS = 0.05
_CATCH_UP_SECONDS = 1.0
_TOO_MANY = 429
_USER_AGENT = "ackstream-simulate"

Sign = Callable[[bytes, float], dict[str, str]]
"""Returns the headers that sign a payload, at a time in seconds since 1970."""


class SendSchedule:
    """The due time of each webhook: the n-th after (n - 1) / rate seconds, or at once without a rate.

    A sender that falls behind catches up by at most the webhooks of one second.
    """

    def __init__(self, rate: float | None, now: float) -> None:
        self._interval_seconds = 1 / rate if rate else 0.0
        self._due = now - self._interval_seconds

    def delay_seconds(self, now: float) -> float:
        """Return the delay of the next webhook; each call counts one webhook."""
        self._due = max(self._due + self._interval_seconds, now - _CATCH_UP_SECONDS)
        return max(self._due - now, 0.0)


@dataclass(frozen=True, slots=True)
class _Attempt:
    webhook: SimulatedWebhook
    number: int


class Provider:
    """Sends webhooks, repeats refused ones, and counts the responses."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        webhooks: Iterator[SimulatedWebhook],
        schedule: SendSchedule,
        repeats: int,
    ) -> None:
        self._session = session
        self._url = url
        self._webhooks = webhooks
        self._schedule = schedule
        self._repeats = repeats
        self._waiting: list[tuple[float, int, _Attempt]] = []
        self._numbers = count()
        self._in_flight = 0
        self._started = 0
        self._repeated = 0
        self._final: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._latencies = Latencies()

    async def send(self, sign: Sign | None, progress: Callable[[SimulatedWebhook], None]) -> None:
        """Send each webhook when it is due, until all are finished. Concurrent calls share the webhooks."""
        while True:
            attempt = self._next()
            if attempt is None:
                if not self._waiting and not self._in_flight:
                    return
                await asyncio.sleep(_POLL_SECONDS)
                continue
            self._in_flight += 1
            try:
                await self._wait_until_due(attempt)
                answer = await self._post(attempt.webhook, sign)
            finally:
                self._in_flight -= 1
            self._settle(attempt, answer)
            if attempt.number == 1:
                progress(attempt.webhook)

    def report(self, seconds: float) -> Report:
        """Return the counts after a run of this many seconds."""
        requests = self._answered.total()
        accepted = sum(number for answer, number in self._final.items() if _is_accepted(answer))
        return Report(
            webhooks=self._started,
            sent=requests,
            repeated=self._repeated,
            accepted=accepted,
            unanswered=self._final[NO_ANSWER],
            refused=self._final.total() - accepted - self._final[NO_ANSWER],
            unfinished=self._started - self._final.total(),
            answered=dict(sorted(self._answered.items())),
            seconds=round(seconds, 3),
            rate=round(requests / seconds if requests else 0.0, 3),
            latency_ms=self._latencies.summary(),
        )

    async def _wait_until_due(self, attempt: _Attempt) -> None:
        delay_seconds = self._schedule.delay_seconds(perf_counter())
        if attempt.webhook.due is not None and attempt.number == 1:
            delay_seconds = max(delay_seconds, attempt.webhook.due - time.time())
        if delay_seconds > 0:
            await asyncio.sleep(delay_seconds)

    def _next(self) -> _Attempt | None:
        if self._waiting and self._waiting[0][0] <= perf_counter():
            self._repeated += 1
            return heappop(self._waiting)[2]
        webhook = next(self._webhooks, None)
        if webhook is None:
            return None
        self._started += 1
        return _Attempt(webhook, 1)

    def _settle(self, attempt: _Attempt, answer: str) -> None:
        self._answered[answer] += 1
        if _is_repeated(answer) and attempt.number <= self._repeats and len(self._waiting) < MOST_REPEATS:
            delay = min(FIRST_REPEAT_SECONDS * 2 ** (attempt.number - 1), LONGEST_REPEAT_SECONDS)
            again = _Attempt(attempt.webhook, attempt.number + 1)
            heappush(self._waiting, (perf_counter() + delay, next(self._numbers), again))
        else:
            self._final[answer] += 1

    async def _post(self, webhook: SimulatedWebhook, sign: Sign | None) -> str:
        started = perf_counter()
        headers = {"Content-Type": webhook.content_type, "User-Agent": _USER_AGENT}
        if sign is not None and webhook.content_type == "application/json":  # receipts have a signature of their own
            headers |= sign(webhook.body, time.time())
        try:
            async with self._session.post(
                self._url, data=webhook.body, headers=headers, allow_redirects=False
            ) as answer:
                async for _ in answer.content.iter_any():
                    pass  # the end of the body frees the connection; its content does not matter
        except (aiohttp.ClientError, TimeoutError, OSError):
            return NO_ANSWER
        self._latencies.add((perf_counter() - started) * 1000)
        return str(answer.status)


def _is_accepted(answer: str) -> bool:
    return answer.startswith("2")


def _is_repeated(answer: str) -> bool:
    return answer.startswith("5") or answer == str(_TOO_MANY)


async def send(
    webhooks: Iterable[SimulatedWebhook],
    url: str,
    *,
    rate: float | None,
    connections: int = 32,
    repeats: int = 0,
    sign: Sign | None = None,
    stop: asyncio.Event | None = None,
    progress: Callable[[SimulatedWebhook], None],
) -> Report:
    """POST the webhooks in order, and return the report; failed requests are counted, not raised.

    Like the provider, it repeats a webhook up to ``repeats`` times after 429 or 5xx. ``rate``, above 0, is in requests
    a second; None sends as fast as the connections allow, but no webhook before it is due. At most ``connections`` (1
    or more) requests are in flight, each for at most ANSWER_SECONDS. ``progress`` is called after the first response to
    each webhook. ``stop`` ends the run early and does not count requests in flight. The webhooks may be a generator:
    the memory does not grow with their number. Raises CommandError if ``url`` is not an HTTP URL.
    """
    try:
        check_http_url(url)
    except WrongValue as exc:
        raise CommandError(f"cannot send to {url!r}: {exc}; write it as http://host:port/path (--url)") from None
    started = perf_counter()
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
    ) as session:
        provider = Provider(session, url, iter(webhooks), SendSchedule(rate, started), repeats)
        senders: asyncio.Future[Any] = asyncio.gather(*(provider.send(sign, progress) for _ in range(connections)))
        stopped: asyncio.Future[Any] = asyncio.ensure_future((stop or asyncio.Event()).wait())
        await asyncio.wait((senders, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not senders.done():
            senders.cancel()
            await asyncio.wait((senders,))
            senders.exception()  # the cancellation, which asyncio would otherwise log as never retrieved
        else:
            senders.result()
        return provider.report(perf_counter() - started)
