"""``python -m tests.chaos.checker.checker CASE``: sends the load, writes each 200 to its history, analyses the result.

The checker reads requests as lines of JSON from standard input, answers each with a line on standard output, and ends
with its input. No fault affects it: its connections bypass every proxy.
"""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from stream.keys import Shard
from stream.redis.client import client
from tests.chaos.checker import payloads, provider, spools
from tests.chaos.checker.analysis import Analysis, analyze
from tests.chaos.checker.history import History, open_history
from tests.chaos.checker.observations import Observer, Places
from worker.store.database import open_engine

LOOK_SECONDS = 0.1
DRAIN_SECONDS = 120.0
OBSERVE_SECONDS = 60.0
FRESH_SECONDS = 30.0
WHOLE = -1
"""The number that means all loads together."""


@dataclass(frozen=True, slots=True)
class CheckerSettings:
    """The addresses and files that the checker uses."""

    redis_url: str
    stream: str
    shards: int
    database_url: str
    ingest_urls: list[str]
    ingest_admin_urls: list[str]
    ingest_data: str
    output: str
    history: str


@dataclass(slots=True)
class LoadResult:
    """The result of a load: its analysis, the seconds until nothing was left, and the entries that were left."""

    analysis: Analysis
    drain_seconds: float
    left: dict[str, int]
    fresh: bool
    """Whether another message then passed from end to end, through each ingest process."""


@dataclass(slots=True)
class Checker:
    """Sends loads and analyses them, by number."""

    observer: Observer
    history: History
    urls: list[str]
    admin_urls: list[str]
    sent: dict[int, list[str]] = field(default_factory=dict)

    async def load(self, number: int, count: int, rate: float, seed: str) -> provider.LoadTally:
        """Send a load; return when each of its messages is stored or given up."""
        rng = random.Random(seed)
        self.sent[number] = payloads.make_ids(number, count, rng)
        async with provider.open_session() as http, spools.open_meter(self.admin_urls) as meter:
            tally = await provider.Provider(http, self.urls, self.history, rng).send(self.sent[number], rate)
        self.history.commit()
        tally.spooled = meter.total
        return tally

    async def end(self, number: int, drain_seconds: float = DRAIN_SECONDS) -> LoadResult:
        """Wait until nothing is left, analyse the load (all loads for WHOLE), then send one more message."""
        started = time.monotonic()
        outstanding = await self._wait_until_drained(started + drain_seconds)
        took = time.monotonic() - started
        analysis = await self._analyze(number)
        return LoadResult(analysis, round(took, 1), outstanding, await self._can_pass())

    async def forge(self, number: int) -> str:
        """Write a 200 for a message that was never sent to the history; it must count as lost."""
        forged = f"chaos-{number}-999999-g"
        self.sent[number].append(forged)
        self.history.add(forged)
        self.history.commit()
        return forged

    async def _wait_until_drained(self, deadline: float) -> dict[str, int]:
        outstanding = {"unknown": 1}
        while outstanding and time.monotonic() < deadline:
            try:
                outstanding = await self.observer.count_unsettled()
            except (RedisError, OSError):
                outstanding = {"unknown": 1}
            await asyncio.sleep(LOOK_SECONDS * bool(outstanding))
        return outstanding

    async def _analyze(self, number: int) -> Analysis:
        sent = [message_uuid for load, ids in self.sent.items() if number in (load, WHOLE) for message_uuid in ids]
        acked = set(self.history.read()) & set(sent)
        async with asyncio.timeout(OBSERVE_SECONDS):
            while True:
                with suppress(RedisError, DBAPIError, OSError):
                    return analyze(acked, sent, await self.observer.observe(sent))
                await asyncio.sleep(LOOK_SECONDS)

    async def _can_pass(self) -> bool:
        fresh = [f"chaos-{time.monotonic_ns()}-{number}-g" for number in range(len(self.urls))]
        try:
            async with asyncio.timeout(FRESH_SECONDS), provider.open_session() as http:
                for url, message_id in zip(self.urls, fresh, strict=True):
                    while not await _is_kept(http, url, message_id):
                        await asyncio.sleep(LOOK_SECONDS)
                while len((await self.observer.observe(fresh)).statuses) < len(fresh):
                    await asyncio.sleep(LOOK_SECONDS)
        except (OSError, RedisError, DBAPIError):  # TimeoutError is an OSError
            return False
        return True


async def _is_kept(http: aiohttp.ClientSession, url: str, message_id: str) -> bool:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with http.post(url, data=payloads.body(message_id)) as response:
            return str(response.status) == provider.KEPT
    return False


@asynccontextmanager
async def open_checker(case: CheckerSettings) -> AsyncIterator[Checker]:
    """Open the connections and the history of a checker."""
    server, engine = client(case.redis_url), open_engine(case.database_url, read_only=True)
    try:
        async with open_history(Path(case.history)) as history:
            shards = [Shard(case.stream, number) for number in range(case.shards)]
            admin_urls = case.ingest_admin_urls
            places = Places(server, shards, engine, Path(case.output), admin_urls, Path(case.ingest_data))
            yield Checker(Observer(places), history, case.ingest_urls, admin_urls)
    finally:
        await engine.dispose()
        await server.aclose()


async def serve(case: CheckerSettings) -> None:
    """Serve the requests on standard input until it ends."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with open_checker(case) as checker:
        acts: dict[str, Any] = {"load": checker.load, "end": checker.end, "forge": checker.forge}
        print("{}", flush=True)  # the checker has started
        while line := await lines.readline():
            asked = orjson.loads(line)
            answer = await acts[asked.pop("act")](**asked)
            print(orjson.dumps(answer).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(CheckerSettings(**orjson.loads(sys.argv[1]))))
