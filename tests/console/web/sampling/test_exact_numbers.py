"""The numbers of the Overview equal a count of the sent webhooks, made outside."""

import asyncio
import random
import time
from pathlib import Path

import aiohttp

from console.up.valkey import find_free_port
from console.web.sampling.sampler import Sampler
from stream.keys import Shard
from tests.support.http.load import JSON, make_delivered
from tests.support.http.sampled import sampling
from tests.support.processes import Ingest, Valkey, ackstream
from tests.support.waiting import until

MESSAGES = 500
LAG_SECONDS = 2.0
BUSY_SECONDS = 1.0
"""Added to the lag, because the machine may be busy."""


class CountedLoad:
    """Webhooks, of which a fifth is sent twice, in random order; and the times of their answers."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.answered: list[float] = []

    async def send(self) -> None:
        """Send some webhooks at the same time, and count those that are answered 200."""
        bodies = [make_delivered(f"m-{number}") for number in range(MESSAGES)]
        bodies += bodies[: MESSAGES // 5]
        random.shuffle(bodies)
        turns = asyncio.Semaphore(8)
        async with aiohttp.ClientSession(headers=JSON) as http, asyncio.TaskGroup() as tasks:
            for body in bodies:
                tasks.create_task(self._post(http, body, turns))

    async def _post(self, http: aiohttp.ClientSession, body: bytes, turns: asyncio.Semaphore) -> None:
        async with turns, http.post(self._url, data=body) as response:
            if response.status == 200:
                self.answered.append(time.time())
            await asyncio.sleep(0.02)

    def answered_until(self, moment: float) -> int:
        """Return how many were answered until this moment."""
        return sum(at <= moment for at in self.answered)


async def watch(sampler: Sampler, load: CountedLoad, wrong: list[str]) -> None:
    """Note each count that is above the sent webhooks, or more than LAG_SECONDS behind."""
    async for moment in sampler.subscribe():
        count = sampler.webhooks_since()
        number = count.number if count else 0
        lowest, highest = load.answered_until(moment.taken_at - LAG_SECONDS - BUSY_SECONDS), len(load.answered) + 8
        if not lowest <= number <= highest:
            wrong.append(f"{number} webhooks, not {lowest} to {highest}")


async def test_counts_equal_the_sent_webhooks(shard: Shard, tmp_path: Path) -> None:
    """With repeats, disorder and an outage of Redis, all counts follow within 2 s, and are exact at rest."""
    valkey, port = Valkey(tmp_path / "valkey"), find_free_port()
    common = {"redis_url": valkey.url, "stream": shard.name, "data": str(tmp_path / "data")}
    async with valkey.run():
        with ackstream("worker", "--handler", "log", folder=tmp_path, admin_port=str(port), **common) as worker:
            await worker.is_ready(port)
            async with (
                Ingest(tmp_path, **common).run() as ingest,
                sampling(valkey.url, shard, tmp_path, [ingest.admin_port, port]) as sampler,
            ):
                load, wrong = CountedLoad(ingest.url), list[str]()
                watcher = asyncio.create_task(watch(sampler, load, wrong))
                await load.send()
                valkey.kill()
                await load.send()

                async def is_scraped() -> bool:
                    return sampler.latest.totals.counts["answers", "200"] == len(load.answered)

                await until(is_scraped)
                during, spooled = sampler.webhooks_since(), sampler.latest.spooled
                await valkey.start()
                await load.send()

                async def is_settled() -> bool:
                    return sampler.latest.groups["log"].settled == len(load.answered)

                await until(is_settled, seconds=60)
                await until(is_scraped)
                latest, count = sampler.latest, sampler.webhooks_since()
                watcher.cancel()

    sent = len(load.answered)
    assert sent == 3 * 600
    assert wrong == []
    assert during is not None
    assert (during.number, spooled) == (1200, 600)
    assert count is not None
    assert (count.number, count.is_exact) == (sent, True)
    assert (latest.redis.stored, latest.redis.entries) == (sent, sent)
    assert latest.totals.counts["answers", "200"] == sent
    assert (latest.groups["log"].outstanding, latest.spooled) == (0, 0)
    assert latest.ingest[0].answer_seconds.count == sent
    assert latest.totals.counts["handled", "log"] == sent
