"""Requests that no page sends: a GET that would act, and parameters without measure."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError
from redis.asyncio import Redis

from console.web import routes
from console.web.access.roles import Role
from console.web.live import LiveStreams
from console.web.route import Route
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.streams.causes import NO_ORDER, add_dead

GETS = [
    route
    for route in routes.collect(LiveStreams(routes.LIVE, asyncio.Event()))
    if route.method == "GET" and route.path not in ("/live", "/api/v1/live") and "static" not in route.path
]
TEXTS = (
    "x" * 5000,
    "9" * 400,
    "-1",
    "\0",
    "../../etc/passwd{{7*7}}' OR 1=1 --",
    "NaN",
    "\ud83d",
    "[]",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:30:00Z",
    "9999-12-31T23:30:00-14:00",
    "0/99999999999999999999-0",
    "1700000000000-99999999999999999999",
)
EXPECTED = {200, 303, 400, 404}
AT_ONCE = 5  # more are too long for a URL


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


def fill_path(route: Route, value: str) -> str:
    """Return the path of the route with the value in the place of its parts."""
    return re.sub(r"\{[^}]*\}", value, route.path)


def name_requests() -> Iterator[str]:
    """Yield a URL for each parameter of each page and each strange text; refused parameters share a URL."""
    for route in GETS:
        for text in TEXTS:
            value = "".join(f"%{byte:02x}" for byte in text.encode(errors="surrogatepass"))
            names = list(route.parameters.model_fields)
            refused = [name for name in names if is_refused(route, name, text)]
            queries = [[name] for name in names if name not in refused]
            queries += [refused[start : start + AT_ONCE] for start in range(0, len(refused), AT_ONCE)]
            yield from (f"{fill_path(route, 'x')}?{'&'.join(f'{name}={value}' for name in query)}" for query in queries)
        yield f"{fill_path(route, 'x')}?unknown=1"


def is_refused(route: Route, name: str, text: str) -> bool:
    """Whether the parameter alone cannot have this value: then no handler sees it."""
    try:
        route.parameters.model_validate({name: text})
    except ValidationError as exc:
        return any(name in error["loc"] for error in exc.errors())
    return False


async def read_all(server: Redis, shard: Shard) -> Mapping[bytes, bytes | None]:
    """Return the content of each key of the shard."""
    keys = [key async for key in server.scan_iter(f"{shard.stream}*", count=1000)]
    return {key: await server.dump(key) for key in keys}


async def test_no_get_changes_anything(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """After a GET of every route, Redis and the audit log are as before."""
    await add_dead(server, shard, "orders", 3, NO_ORDER)
    before = await read_all(server, shard)
    async with console.visit(Role.ADMIN) as person:
        audited = (await person.get("/api/v1/audit")).text
        for route in GETS:
            for value in ("orders", "0/1-1", "m-1"):
                await person.get(fill_path(route, value.replace("/", "%2F")))
        assert (await person.get("/api/v1/audit")).text == audited

    assert before
    assert await read_all(server, shard) == before


async def test_no_parameter_is_without_limit(console: ConsoleServer) -> None:
    """Long and strange values are answered as a page or as a wrong parameter, and never fail the console."""
    async with console.visit(Role.ADMIN) as person:
        statuses = {url: (await person.get(url)).status for url in name_requests()}

    assert {url[:200]: status for url, status in statuses.items() if status not in EXPECTED} == {}
    assert {url: status for url, status in statuses.items() if url.endswith("unknown=1") and status == 200} == {}
