"""The page of the audit log: filters, pages and CSV."""

import csv
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from console.web.access.audit import AuditLog
from console.web.access.roles import Identity, Role
from console.web.database import open_console_database
from console.web.pages.run.replies import AuditReply
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, run_console

ENTRIES = 120
MARKUP = "<script>alert(1)</script>"


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard, server: Redis) -> AsyncIterator[ConsoleServer]:
    """A console whose log has acts of two people."""
    assert await server.ping()
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        async with open_console_database(running.settings.console_database) as database:
            log = AuditLog(database)
            for number in range(ENTRIES):
                person = Identity("ida" if number % 3 else "tomas", Role.OPERATOR, "10.0.0.1")
                action = "replays.start" if number % 2 else "groups.pause"
                await log.record(
                    person, action=action, scope=f"number {number}", count=number, why="=1+1", result=MARKUP
                )
        yield running


async def test_pages_have_each_entry_once(console: ConsoleServer) -> None:
    """The next page continues after the last entry of the page before, the newest first."""
    async with console.visit(Role.VIEWER) as person:
        query, scopes, pages = "who=ida&limit=30", [], 0
        while query:
            data = (await person.get(f"/api/v1/audit?{query}")).json()
            AuditReply.model_validate(data)
            scopes += [entry["scope"] for entry in data["entries"]]
            query, pages = data["next"] and f"{data['next']}&limit=30", pages + 1

    assert scopes == [f"number {number}" for number in reversed(range(ENTRIES)) if number % 3]
    assert pages == 3


async def test_filters_choose_person_action_and_time(console: ConsoleServer) -> None:
    """A filter is in the URL; an action's first word chooses all of its kind."""
    async with console.visit(Role.VIEWER) as person:
        page = (await person.get("/audit?who=tomas&action=replays")).text
        future = (await person.get("/api/v1/audit?since=2100-01-01")).json()["entries"]
        recent = (await person.get("/api/v1/audit?since=1h&action=groups.pause&limit=199")).json()["entries"]
        wrong = [await person.get(f"/api/v1/audit?{query}") for query in ("since=soon", "limit=200", "before=0", "x=1")]

    assert page.count("replays.start</a>") == ENTRIES // 6
    assert "groups.pause</a>" not in page
    assert MARKUP not in page
    assert "&lt;script&gt;" in page
    assert (future, len(recent)) == ([], ENTRIES // 2)
    assert [answer.status for answer in wrong] == [400] * 4


async def test_the_log_is_exported_as_csv(console: ConsoleServer) -> None:
    """The file has all entries of the filter; no cell is a formula."""
    async with console.visit(Role.VIEWER) as person:
        answer = await person.get("/audit.csv?action=groups.pause")

    head, *rows = csv.reader(answer.text.splitlines())
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert head == ["at", "who", "role", "address", "action", "scope", "count", "why", "result"]
    assert len(rows) == ENTRIES // 2
    assert {row[7] for row in rows} == {"'=1+1"}
