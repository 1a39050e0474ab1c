"""A whole web console inside the test's own loop, on a real port, and signed-in clients."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite
import orjson
from aiohttp import ClientSession, CookieJar

from console.up.valkey import find_free_port
from console.web.access.links import create_link
from console.web.access.roles import Role
from console.web.app import serve
from console.web.settings import ConsoleSettings
from tests.support.databases import make_sqlite
from tests.support.in_process import answers_in_time
from tests.support.waiting import until

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        """Return the parsed body."""
        return orjson.loads(self.text)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A browser's worth of cookies. Redirects are not followed."""

    url: str
    http: ClientSession

    async def get(self, path: str, **headers: str) -> PageAnswer:
        """GET a page or an API route."""
        return await self._send("GET", path, headers=headers)

    async def post(self, path: str, form: Mapping[str, str] | None = None, *, json: Any = None) -> PageAnswer:
        """POST a form, or JSON, as a page of the console does."""
        return await self._send("POST", path, headers=SAME_ORIGIN, data=form, json=json)

    async def get_plan(self, query: str) -> str:
        """Return the page of a planned replay once its count is complete: at first it may show the number so far."""

        async def is_complete() -> bool:
            return bool((await self.get(f"/api/v1/replays?{query}")).json()["plan"]["complete"])

        await until(is_complete)
        return (await self.get(f"/replays?{query}")).text

    async def _send(self, method: str, path: str, **request: Any) -> PageAnswer:
        async with self.http.request(method, f"{self.url}{path}", allow_redirects=False, **request) as answer:
            return PageAnswer(answer.status, answer.headers, await answer.text())


@dataclass(frozen=True, slots=True)
class ConsoleServer:
    """A running console."""

    settings: ConsoleSettings
    url: str
    stop: asyncio.Event

    @asynccontextmanager
    async def visit(self, role: Role | None = Role.OPERATOR) -> AsyncIterator[Visitor]:
        """Yield a visitor with this role; None is a stranger."""
        async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as http:
            visitor = Visitor(self.url, http)
            if role is not None:
                link = await create_link(self.settings.console_database, self.url, role)
                answer = await visitor.post("/sign-in", {"link": link.partition("link=")[2]})
                assert answer.status == 303
            yield visitor

    async def read_audit(self, action: str = "") -> list[dict[str, Any]]:
        """Return the entries of the audit log whose action starts with this text, the oldest first."""
        query = "SELECT who, action, scope, count, why, result FROM audit WHERE action LIKE ? || '%' ORDER BY id"
        async with aiosqlite.connect(self.settings.console_database) as database:
            database.row_factory = aiosqlite.Row
            return [dict(row) for row in await database.execute_fetchall(query, (action,))]


@asynccontextmanager
async def run_console(data: Path, redis_url: str, stream: str, **settings: Any) -> AsyncIterator[ConsoleServer]:
    """Run a console over this server and stream. Without ``database_url`` it has an empty SQLite file with tables."""
    if "database_url" not in settings:
        settings["database_url"] = make_sqlite(data / "ackstream.db")
    port = find_free_port()
    loaded = ConsoleSettings.load(data=data, redis_url=redis_url, stream=stream, console_port=port, **settings)
    console = ConsoleServer(loaded, f"http://127.0.0.1:{port}", asyncio.Event())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(loaded, console.stop))
        try:
            await answers_in_time(f"{console.url}/sign-in")
            yield console
        finally:
            console.stop.set()
