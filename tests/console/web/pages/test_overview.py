from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from console.up.valkey import find_free_port
from console.web.access.roles import Role
from stream.keys import Shard
from tests.support.databases import make_sqlite
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.in_process import Running, run_ingest, run_worker
from tests.support.processes import ackstream, becomes
from tests.support.streams.retention import add
from tests.support.waiting import until

STATUS = b'{"message_uuid":"m-%d","status":"delivered","channel":"sms"}'


@dataclass(frozen=True, slots=True)
class Place:
    """Ingest, a worker and a console over one stream."""

    ingest: Running
    console: ConsoleServer


@pytest.fixture
async def place(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[Place]:
    common: dict[str, Any] = {"data": tmp_path, "redis_url": valkey_url, "stream": shard.name}
    database_url = make_sqlite(tmp_path / "ackstream.db")
    async with (
        run_ingest(**common, ack_budget_ms=10_000) as ingest,  # a slow machine does not use the spool
        run_worker(**common, database_url=database_url, handlers="store"),
        run_console(
            tmp_path,
            valkey_url,
            shard.name,
            database_url=database_url,
            console_scrape=f"http://127.0.0.1:{ingest.admin_port}",
            console_ingest_url=ingest.url,
        ) as console,
    ):
        yield Place(ingest, console)


async def send(url: str, number: int) -> None:
    async with aiohttp.ClientSession() as http:
        for place in range(number):
            async with http.post(url, data=STATUS % place) as answer:
                assert answer.status == 200


async def test_the_numbers_are_those_of_the_webhooks_sent(place: Place) -> None:
    """After 40 webhooks the twin has 40 entries, and the group has settled all of them."""
    async with place.console.visit(Role.VIEWER) as person:

        async def is_settled() -> bool:
            data = (await person.get("/api/v1/overview")).json()
            outstanding = {row["name"]: row["outstanding"] for row in data["groups"]}
            state = data["flow"]["ingest"]["state"], data["flow"]["redis"]["entries"], outstanding
            return bool(state == ("Ready", 40, {"store": 0}))

        await send(place.ingest.url, 40)
        await until(is_settled)
        data = (await person.get("/api/v1/overview")).json()
        page = (await person.get("/")).text

    assert data["flow"]["spool"]["entries"] == 0
    assert data["flow"]["provider"]["signed_share"] in (0, None)
    assert [row["dead"] for row in data["groups"]] == [0]
    assert "40 <small>entries</small>" in page
    assert 'id="group-store"' in page


async def test_an_empty_stream_shows_the_first_run(place: Place) -> None:
    """Without any webhook the page has the command to send one, a button for made-up ones, and the steps."""
    async with place.console.visit() as person:
        page = (await person.get("/")).text

    assert f"curl -i {place.ingest.url} " in page
    assert 'action="/simulate"' in page
    assert "1 of 6 done" in page
    assert 'id="charts"' not in page


async def test_the_first_run_sends_made_up_webhooks(place: Place) -> None:
    """An operator sends 500 messages once; with webhooks on the stream the same request sends nothing."""
    async with place.console.visit() as person:
        started = await person.post("/simulate")
        noted = (await person.get("/")).text

        async def has_entries() -> bool:
            return bool((await person.get("/api/v1/overview")).json()["flow"]["redis"]["entries"] > 10)

        await until(has_entries)
        again = await person.post("/simulate")
        refused = (await person.get("/")).text

    assert (started.status, again.status) == (303, 303)
    assert "Started: 500 made-up messages go to ingest." in noted
    assert "Not sent: webhooks have arrived already." in refused


async def test_a_viewer_sends_nothing(place: Place) -> None:
    """The role viewer may look, and not send."""
    async with place.console.visit(Role.VIEWER) as person:
        assert (await person.post("/simulate")).status == 403
        assert (await person.get("/api/v1/overview")).json()["flow"]["redis"]["entries"] == 0


async def test_charts_have_a_table(place: Place) -> None:
    """The lines of a chart share their times, and a page without script has them as a table."""
    await send(place.ingest.url, 5)
    async with place.console.visit(Role.VIEWER) as person:

        async def has_points() -> bool:
            lines = (await person.get("/api/v1/overview/series?span=15m")).json()["lines"]
            return any(value for value in lines["rate"][0]["values"])

        await until(has_points)
        charts = (await person.get("/api/v1/overview/series?span=15m")).json()
        page = (await person.get("/?tables=1")).text

    assert charts["step_seconds"] == 5
    assert {len(line["values"]) for lines in charts["lines"].values() for line in lines} == {len(charts["times"])}
    assert "<h2>Charts as a table</h2>" in page
    assert 'id="charts"' not in page


async def test_the_steps_can_be_hidden(place: Place) -> None:
    """A person hides the list of steps, and it stays hidden before and after the first webhook."""
    async with place.console.visit(Role.VIEWER) as person:

        async def has_charts() -> bool:
            return 'id="charts"' in (await person.get("/")).text

        before = (await person.get("/")).text
        await person.post("/preferences", {"steps": "hidden"})
        first_run = (await person.get("/")).text
        await send(place.ingest.url, 1)
        await until(has_charts)
        after = (await person.get("/")).text

    assert "Until you go live" in before
    assert "Until you go live" not in first_run
    assert "Until you go live" not in after


async def test_a_group_at_the_limit_of_its_backlog_is_paused(
    server: Redis, valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """Overview and the page of the group say why, without a button. It ends when the dead letters are gone."""
    port = find_free_port()
    common = {"redis_url": valkey_url, "stream": shard.name, "admin_port": str(port), "backlog_bytes": str(2**20)}
    await add(server, shard, [1])
    for _ in range(3):
        await server.xadd(shard.dead("log"), {"origin": "0/5-0", "payload": "x" * 2**19})
    with ackstream("worker", "--handler", "log", folder=tmp_path, **common) as worker:
        await becomes(lambda: worker.lives() and "group.backlog_full" in worker.said)
        scrape = f"http://127.0.0.1:{port}"
        async with (
            run_console(tmp_path, valkey_url, shard.name, console_scrape=scrape) as console,
            console.visit(Role.OPERATOR) as person,
        ):

            async def has_reason(reason: str | None) -> bool:
                (shown,) = (await person.get("/api/v1/overview")).json()["groups"]
                (row,) = (await person.get("/api/v1/groups")).json()["groups"]
                return [each["paused"] and each["paused"]["reason"] for each in (shown, row)] == [reason, reason]

            await until(lambda: has_reason("backlog"))
            pages = [(await person.get(path)).text for path in ("/", "/groups", "/groups/log")]
            assert not await server.exists(shard.paused("log"))
            await server.delete(shard.dead("log"))
            await until(lambda: has_reason(None))

    assert "Its retries and dead letters use too much memory" in pages[0]
    for page in pages[1:]:
        assert "delayed retries and dead letters take <code>ACKSTREAM_BACKLOG_BYTES</code>" in page
        assert 'action="/groups/log/resume"' not in page
