"""``python -m tests.chaos.judge CASE``: the process that sends the load, notes each 200 on its own disk, and judges.

It is told what to do by lines of JSON on standard input, answers each by one on standard output, and ends when its
input does. Nothing that the faults do reaches it: it has its own connections, past every proxy.
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
from tests.chaos import payloads, provider, spools
from tests.chaos.evidence import Evidence, Places
from tests.chaos.ledger import Ledger, keeping
from tests.chaos.verdict import Verdict, judge
from worker.store.database import open_engine

LOOK_SECONDS = 0.1
DRAIN_SECONDS = 120.0
EVIDENCE_SECONDS = 60.0
FRESH_SECONDS = 30.0
WHOLE = -1
"""The number of the load that stands for all of them."""


@dataclass(frozen=True, slots=True)
class Case:
    """Where the judge sends to and looks at."""

    redis_url: str
    stream: str
    database_url: str
    ingest_urls: list[str]
    ingest_admin_urls: list[str]
    ingest_data: str
    output: str
    ledger: str


@dataclass(slots=True)
class Ending:
    """How a load ended: how long it took until nothing was left, what was left if that did not come, the verdict."""

    verdict: Verdict
    drain_seconds: float
    left: dict[str, int]
    fresh: bool
    """Whether one more message then passed from end to end, through each ingest."""


@dataclass(slots=True)
class Judge:
    """Sends loads and judges them, by number."""

    evidence: Evidence
    ledger: Ledger
    urls: list[str]
    admin_urls: list[str]
    sent: dict[int, list[str]] = field(default_factory=dict)

    async def load(self, number: int, count: int, rate: float, seed: str) -> provider.Tally:
        """Send a load; return when each of its messages is kept or given up."""
        rng = random.Random(seed)
        self.sent[number] = payloads.ids(number, count, rng)
        async with provider.session() as http, spools.metered(self.admin_urls) as meter:
            tally = await provider.Provider(http, self.urls, self.ledger, rng).send(self.sent[number], rate)
        self.ledger.commit()
        tally.spooled = meter.total
        return tally

    async def end(self, number: int, drain_seconds: float = DRAIN_SECONDS) -> Ending:
        """Wait until nothing is left, then judge the load (or all, as WHOLE), then have one message more pass."""
        began = time.monotonic()
        left = await self._drained(began + drain_seconds)
        took = time.monotonic() - began
        verdict = await self._judged(number)
        return Ending(verdict, round(took, 1), left, await self._passes())

    async def forge(self, number: int) -> str:
        """Note a 200 for a message that was never sent, which must then count as lost."""
        forged = f"chaos-{number}-999999-g"
        self.sent[number].append(forged)
        self.ledger.add(forged)
        self.ledger.commit()
        return forged

    async def _drained(self, deadline: float) -> dict[str, int]:
        left = {"unknown": 1}
        while left and time.monotonic() < deadline:
            try:
                left = await self.evidence.left()
            except (RedisError, OSError):
                left = {"unknown": 1}
            await asyncio.sleep(LOOK_SECONDS * bool(left))
        return left

    async def _judged(self, number: int) -> Verdict:
        sent = [one for load, ids in self.sent.items() if number in (load, WHOLE) for one in ids]
        acked = set(self.ledger.read()) & set(sent)
        async with asyncio.timeout(EVIDENCE_SECONDS):
            while True:
                with suppress(RedisError, DBAPIError, OSError):
                    return judge(acked, sent, await self.evidence.found(sent))
                await asyncio.sleep(LOOK_SECONDS)

    async def _passes(self) -> bool:
        fresh = [f"chaos-{time.monotonic_ns()}-{number}-g" for number in range(len(self.urls))]
        try:
            async with asyncio.timeout(FRESH_SECONDS), provider.session() as http:
                for url, message_id in zip(self.urls, fresh, strict=True):
                    while not await _is_kept(http, url, message_id):
                        await asyncio.sleep(LOOK_SECONDS)
                while len((await self.evidence.found(fresh)).statuses) < len(fresh):
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
async def judging(case: Case) -> AsyncIterator[Judge]:
    """Open what a judge needs for the length of the block."""
    server, engine = client(case.redis_url), open_engine(case.database_url, read_only=True)
    try:
        async with keeping(Path(case.ledger)) as ledger:
            shard, admin_urls = Shard(case.stream), case.ingest_admin_urls
            places = Places(server, shard, engine, Path(case.output), admin_urls, Path(case.ingest_data))
            yield Judge(Evidence(places), ledger, case.ingest_urls, admin_urls)
    finally:
        await engine.dispose()
        await server.aclose()


async def serve(case: Case) -> None:
    """Do what standard input says, until it ends."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with judging(case) as judge:
        acts: dict[str, Any] = {"load": judge.load, "end": judge.end, "forge": judge.forge}
        print("{}", flush=True)  # it is there
        while line := await lines.readline():
            asked = orjson.loads(line)
            answer = await acts[asked.pop("act")](**asked)
            print(orjson.dumps(answer).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Case(**orjson.loads(sys.argv[1]))))
