"""The sampler: the only reader of Redis's and the processes' numbers in a console, for all pages and viewers.

It reads Redis every second, scrapes the processes every two, and asks the database every five. A part that does not
answer becomes an `Away` of the snapshot; the sampler itself keeps running.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp
from aiosqlite import Connection
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from console.errors import explain
from console.queries.statuses.figures import OpenMessages
from console.queries.statuses.open_messages import count_open
from console.queries.statuses.reading import QueryTooSlow
from console.web.metrics.counters import StreamSums
from console.web.metrics.gauges import CONSUMERS, DEAD_LETTERS, OLDEST, OPEN_MESSAGES, OUTSTANDING
from console.web.sampling.alerts import Alerts
from console.web.sampling.findings import FiringAlert, Range, Series, Verdict, WebhookCount
from console.web.sampling.history import SampleHistory
from console.web.sampling.rates import Rates, RecentMoments
from console.web.sampling.redis_reader import RedisReader
from console.web.sampling.reports import ProcessReports
from console.web.sampling.scrape import Scraper
from console.web.sampling.snapshot import (
    Away,
    IngestSample,
    RedisSample,
    Snapshot,
    Totals,
    WorkerSample,
    add_backlog_pauses,
)
from console.web.sampling.verdict import make_verdict
from console.web.settings import ConsoleSettings
from runtime.tasks import cancel_and_wait
from stream.redis.client import describe_error
from stream.redis.cluster import AwayShard
from stream.shard_watch import FindShards
from worker.store.database import DatabaseAway, open_connection

TICK_SECONDS = 1.0
SCRAPE_EVERY_SECONDS = 2.0
DATABASE_EVERY_SECONDS = 5.0
DATABASE_SECONDS = 3.0
COUNT_EVERY_SECONDS = 60.0
WRITE_EVERY_SECONDS = 5.0


class Sampler:
    """The newest snapshot, and everything that is derived from it."""

    def __init__(
        self,
        redis: RedisReader,
        scraper: Scraper,
        engine: AsyncEngine,
        history: SampleHistory,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._scraper = scraper
        self._engine = engine
        self._history = history
        self._clock = clock
        self._sums = StreamSums(history.marks)
        self._redis_at = 0.0
        self._database: Away | None = None
        self._open_messages: OpenMessages | None = None
        self._counted_at = 0.0
        self._recent = RecentMoments()
        self._alerts = Alerts()
        self._turn = asyncio.Lock()
        self._ticked_at = time.monotonic()
        now = clock()
        self.latest = Snapshot(now, now, RedisSample(), {}, (), (), (), scraper.has_addresses, None, Totals())
        """The newest snapshot; without any number until the first tick."""

    @property
    def alerts(self) -> Sequence[FiringAlert]:
        """The alerts that fire, pages first."""
        return self._alerts.firing

    @property
    def verdict(self) -> Verdict:
        """The sentences about this moment."""
        return make_verdict(self.latest, self.rates(), self.alerts, self.webhooks_since())

    @property
    def reports(self) -> ProcessReports:
        """The settings in force and the handlers of the processes."""
        return self._scraper.reports

    def age(self) -> float:
        """Return the seconds since the newest snapshot was taken. It is more than a few if the console hangs."""
        return time.monotonic() - self._ticked_at

    def rates(self, seconds: float = 10.0) -> Rates:
        """Return the rates over the last seconds, at most 60."""
        return self._recent.rates(seconds)

    async def series(self, chosen: Range) -> Series:
        """Return the points of the charts of this range."""
        return await self._history.series(chosen, self._clock())

    def webhooks_since(self, seconds: float = 86_400.0) -> WebhookCount | None:
        """Count the webhooks stored in the last seconds, at most a day; None before the first snapshot."""
        return self._history.webhooks_since(self._clock() - seconds)

    def lose_shards(self, away: Sequence[AwayShard]) -> None:
        """Leave these shards out until the next reading: a page has found that they do not answer."""
        self._redis.lose(away)
        groups = add_backlog_pauses(self._redis.groups, self.latest.workers)
        self.latest = replace(self.latest, redis=self._redis.sample, groups=groups)

    async def tick(self) -> None:
        """Read Redis, and take a snapshot."""
        async with self._turn:
            await self._read()

    async def _read(self) -> None:
        has_answered = await self._redis.read()
        is_first = not self._sums.marks  # a shard that is missing in the first reading would later count as a new one
        if has_answered and not (is_first and self._redis.sample.away_shards):
            self._sums.add(self._redis.shards)
            self._redis_at = self._clock()
        before, self.latest = self.latest, self._take()
        self._recent.add(self.latest)
        self._alerts.add(self.latest)
        self._history.add(before, self.latest, self._sums.marks)
        _export(self.latest)
        self._ticked_at = time.monotonic()

    async def scrape(self, http: aiohttp.ClientSession) -> None:
        """Read the metrics of all processes and then Redis, so that spools and streams are of one moment."""
        await self._scraper.scrape(http)
        await self.tick()

    async def ask_database(self) -> None:
        """Ask the database whether it answers, for the next snapshot."""
        try:
            async with asyncio.timeout(DATABASE_SECONDS), open_connection(self._engine) as connection:
                await connection.execute(text("SELECT 1"))
        except (DatabaseAway, SQLAlchemyError, OSError, TimeoutError) as exc:
            self._database = Away(_describe_away(exc), self._database.since if self._database else self._clock())
            self._open_messages, self._counted_at = None, 0.0
            return
        self._database = None
        if self._clock() - self._counted_at >= COUNT_EVERY_SECONDS:
            self._open_messages, self._counted_at = await _count_open(self._engine, self._clock()), self._clock()

    def _take(self) -> Snapshot:
        processes = list(self._scraper.processes.values())
        ingest = tuple(process for process in processes if isinstance(process, IngestSample))
        workers = tuple(process for process in processes if isinstance(process, WorkerSample))
        settled = {("settled", name): float(count) for name, count in self._sums.settled.items()}
        streams = {("stored", ""): float(self._sums.stored), ("losses", ""): float(self._sums.losses)}
        return Snapshot(
            taken_at=self._clock(),
            started_at=self.latest.started_at,
            redis=self._redis.sample,
            groups=add_backlog_pauses(self._redis.groups, workers),
            ingest=ingest,
            workers=workers,
            silent=tuple(process for process in processes if process not in (*ingest, *workers)),
            is_scraping=self._scraper.has_addresses,
            database=self._database,
            open_messages=self._open_messages,
            totals=replace(self._scraper.totals, redis_at=self._redis_at, redis_counts={**streams, **settled}),
        )


def _export(moment: Snapshot) -> None:
    """Set the console's own metrics. An unknown number has no series."""
    for gauge in (OUTSTANDING, OLDEST, DEAD_LETTERS, CONSUMERS, OPEN_MESSAGES):
        gauge.clear()
    if moment.open_messages is not None:
        messages = moment.open_messages
        ages = {"under_1h": messages.under_1h, "1h_to_24h": messages.from_1h_to_24h, "over_24h": messages.over_24h}
        for age, count in ages.items():
            if count.is_exact:
                OPEN_MESSAGES.labels(age).set(count.number)
    if moment.redis.away is not None or moment.redis.away_shards:
        return
    for name, group in moment.groups.items():
        if not group.registered:
            continue
        OLDEST.labels(name).set(group.oldest_seconds or 0.0)
        DEAD_LETTERS.labels(name).set(group.dead)
        if group.outstanding is not None:
            OUTSTANDING.labels(name).set(group.outstanding)
        if group.alive is not None:
            CONSUMERS.labels(name).set(group.alive)


async def _count_open(engine: AsyncEngine, now: float) -> OpenMessages | None:
    """Count the open messages; None if the database has no tables, or takes too long."""
    try:
        return await count_open(engine, datetime.fromtimestamp(now, UTC))
    except (DatabaseAway, QueryTooSlow, SQLAlchemyError, OSError):
        return None


def _describe_away(exc: BaseException) -> str:
    original = (exc.orig if isinstance(exc, DatabaseAway | DBAPIError) else None) or exc
    return explain(original) or f"the database does not answer ({describe_error(original)})"


@asynccontextmanager
async def run_sampler(
    settings: ConsoleSettings, server: Redis, find_shards: FindShards, engine: AsyncEngine, database: Connection
) -> AsyncIterator[Sampler]:
    """Run the sampler while the block runs; yields it after its first snapshot. ``database`` is the console's own."""
    history = SampleHistory(database)
    await history.load(time.time())
    scraper = Scraper(lambda: settings.scrape_urls)  # `ackstream up` may start later
    sampler = Sampler(RedisReader(server, find_shards), scraper, engine, history)
    timeout = aiohttp.ClientTimeout(total=SCRAPE_EVERY_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as http,
        asyncio.TaskGroup() as tasks,
    ):
        await sampler.ask_database()
        await sampler.scrape(http)
        running = [
            tasks.create_task(_repeat(sampler.tick, TICK_SECONDS), name="sampler"),
            tasks.create_task(_repeat(lambda: sampler.scrape(http), SCRAPE_EVERY_SECONDS), name="scraper"),
            tasks.create_task(_repeat(sampler.ask_database, DATABASE_EVERY_SECONDS), name="database"),
            tasks.create_task(_repeat(history.write, WRITE_EVERY_SECONDS), name="history"),
        ]
        try:
            yield sampler
        finally:
            await cancel_and_wait(running)
            await history.finish()


async def _repeat(step: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Run a step again and again, each time this long after its last start, or at once if it took longer."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        due = max(due + seconds, loop.time())
        await asyncio.sleep(due - loop.time())
        await step()
