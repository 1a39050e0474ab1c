"""The scraper reads every process within limits, over restarts, and never raises."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from console.up.valkey import find_free_port
from console.web.metrics.exposition import Reading, read_metrics
from console.web.sampling import scrape
from console.web.sampling.scrape import Address, Scraper, keep_one_family
from console.web.sampling.snapshot import IngestSample
from stream.keys import Shard
from tests.support.http.load import JSON, make_delivered
from tests.support.processes import Ingest
from tests.support.waiting import until

INGEST = 'ackstream_process{kind="ingest"} 1\nprocess_start_time_seconds 5\n'


@asynccontextmanager
async def serving(*bodies: bytes, seconds: float = 0.0, status: int = 200) -> AsyncIterator[str]:
    """Serve these bodies at /metrics, one after the other, the last one again and again; yields the URL."""
    answers = list(bodies)

    async def metrics(_request: web.Request) -> web.Response:
        await asyncio.sleep(seconds)
        return web.Response(body=answers.pop(0) if len(answers) > 1 else answers[0], status=status)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"


async def scraped(scraper: Scraper, rounds: int = 1) -> Scraper:
    """Let it scrape for some rounds."""
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        for _ in range(rounds):
            await scraper.scrape(http)
    return scraper


async def scraped_from_all(scraper: Scraper) -> None:
    """Let it scrape until each process has answered in time, which a busy machine may prevent."""

    async def all_are_up() -> bool:
        await scraped(scraper)
        return all(process.is_up for process in scraper.processes.values())

    await until(all_are_up)


async def reason(url: str) -> str:
    """Return why the only process of this URL is away."""
    (process,) = (await scraped(Scraper(lambda: [url]))).processes.values()
    assert process.away is not None
    return process.away.reason


async def test_answers_that_are_no_metrics_are_away() -> None:
    """Another status, another page, too much text, a slow answer, a closed port, and a name without an address."""
    async with serving(b"no", status=500) as url:
        assert "answer 500" in await reason(url)
    async with serving(b"<html>") as url:
        assert "no metrics of an ingest process or a worker" in await reason(url)
    async with serving(INGEST.encode() + b"#" * scrape.MOST_BYTES) as url:
        assert "bytes" in await reason(url)
    async with serving(b"", seconds=scrape.SCRAPE_SECONDS + 1) as url:
        assert "no answer within" in await reason(url)
    assert "refused" in await reason(f"http://127.0.0.1:{find_free_port()}")
    assert "has no address" in await reason("http://no-such-name.invalid:9464")


async def test_addresses_change_while_it_runs() -> None:
    """The URLs are asked for in each round: a process that appears is scraped, and one that is gone is dropped."""
    urls: list[str] = []
    scraper = Scraper(lambda: urls)
    async with serving(INGEST.encode()) as url:
        await scraped(scraper)
        before = dict(scraper.processes)
        urls.append(url)
        await scraped(scraper)
        during = list(scraper.processes.values())
        urls.clear()
        await scraped(scraper)

    assert before == {}
    assert [process.is_up for process in during] == [True]
    assert scraper.processes == {}
    assert not scraper.has_addresses


async def test_a_spool_that_went_with_its_process_stays_in_sight() -> None:
    """A process that vanishes with webhooks in its spool is away, until a new process starts."""
    urls: list[str] = []
    scraper = Scraper(lambda: urls)
    full = INGEST + "ackstream_spool_entries 12\n"
    async with serving(full.encode()) as old, serving(INGEST.encode()) as new:
        urls[:] = [old]
        await scraped(scraper)
        urls.clear()
        await scraped(scraper, rounds=2)
        (lost,) = scraper.processes.values()
        urls[:] = [new]
        await scraped(scraper)

    assert isinstance(lost, IngestSample)
    assert lost.spool_entries == 12
    assert lost.away is not None
    assert "start it again" in lost.away.reason
    assert [process.is_up for process in scraper.processes.values()] == [True]


def test_a_process_with_two_addresses_counts_once() -> None:
    """If a name has addresses of both families, only those of the family that answers more count."""
    url, reading = URL("http://ingest:9464"), read_metrics(INGEST)
    v4, v6 = Address(url, "10.0.0.1", 9464), Address(url, "fd00::1", 9464)

    readings: dict[str, Reading | str] = {v4.text: reading, v6.text: reading}
    keep_one_family([v4, v6], readings)
    only_v6: dict[str, Reading | str] = {v4.text: "refused", v6.text: reading}
    keep_one_family([v4, v6], only_v6)
    neither: dict[str, Reading | str] = {v4.text: "refused", v6.text: "refused"}
    keep_one_family([v4, v6], neither)

    assert (list(readings), list(only_v6), len(neither)) == (["10.0.0.1:9464"], ["[fd00::1]:9464"], 2)


async def test_a_reading_that_fails_is_part_of_the_next_one() -> None:
    """The counts of a process that did not answer once belong to the time since its last answer."""
    now = [100.0]
    urls = ["http://no-such-name.invalid:9464"]
    text = INGEST.replace(" 5\n", " 99\n") + 'ackstream_webhooks_total{answer="200"} %d\n'
    async with serving(*((text % number).encode() for number in (1, 4, 9))) as url:
        scraper = Scraper(lambda: urls, clock=lambda: now[0])
        spans = []
        for moment, addresses in ((101.0, [url]), (102.0, [url]), (104.0, urls), (109.0, [url])):
            now[0], urls = moment, addresses
            await scraped(scraper)
            spans.append(scraper.totals.spans.get("ingest"))

    assert spans == [(99.0, 101.0), (101.0, 102.0), (101.0, 102.0), (102.0, 109.0)]
    assert scraper.totals.counts["answers", "200"] == 9


async def test_totals_survive_a_restart(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """A process that is killed and starts again on its port counts from 0; the totals do not."""
    ingest = Ingest(tmp_path, redis_url=valkey_url, stream=shard.name, data=str(tmp_path / "data"))
    scraper = Scraper(lambda: [f"http://127.0.0.1:{ingest.admin_port}"])

    async def send(count: int) -> None:
        async with aiohttp.ClientSession(headers=JSON) as http:
            for number in range(count):
                async with http.post(ingest.url, data=make_delivered(f"m-{number}")) as response:
                    assert response.status == 200

    async with ingest.run():
        await send(5)
        await scraped_from_all(scraper)
        ingest.kill()
        await scraped(scraper)
        away = [process.is_up for process in scraper.processes.values()]
        await ingest.start()
        await send(3)
        await scraped_from_all(scraper)

    (process,) = scraper.processes.values()
    assert isinstance(process, IngestSample)
    assert away == [False]
    assert process.answers == {"200": 3.0}
    assert scraper.totals.counts["answers", "200"] == 8
    assert scraper.totals.distributions["answer", ""].count == 8
