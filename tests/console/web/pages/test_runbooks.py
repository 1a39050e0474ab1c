import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from console.web.pages.runbooks import render
from console.web.sampling.alert_rules import RULES
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.samples.events import body
from tests.support.waiting import until
from tests.support.workers.failing_group import FailingGroup


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


async def test_each_rule_has_its_page(console: ConsoleServer) -> None:
    """The list links to a page for each rule, with headings, tables and links to pages that exist. JSON has it too."""
    async with console.visit() as person:
        listed = (await person.get("/runbooks")).text
        pages = {rule.runbook: await person.get(f"/runbooks/{rule.runbook}") for rule in RULES}
        twin = (await person.get("/api/v1/runbooks/group-paused")).json()
        missing = [await person.get(path) for path in ("/runbooks/no-such", "/runbooks/index", "/runbooks/..%2Findex")]

    assert re.findall(r'href="/runbooks/([a-z-]+)">Ackstream', listed) == list(pages)
    assert all(
        page.status == 200 and "<h2>Causes</h2>" in page.text and "<table>" in page.text for page in pages.values()
    )
    links = {
        link for page in pages.values() for link in re.findall(r'href="([^"]*)"', page.text) if link.endswith(".md")
    }
    named = {name for page in pages.values() for name in re.findall(r'href="/runbooks/([^"]+)"', page.text)}
    assert (links, named - set(pages)) == (set(), set())
    assert (twin["alert"], twin["severity"], twin["title"]) == ("AckstreamGroupPaused", "warning", "A group is paused")
    assert twin["markdown"].startswith("# A group is paused\n")
    assert [page.status for page in missing] == [404, 404, 404]


async def test_an_alert_links_to_its_runbook(tmp_path: Path, valkey_url: str, server: Redis, shard: Shard) -> None:
    """An alert of the Overview has the path of its runbook, on the page and in the JSON."""
    group = FailingGroup(server, shard)
    await group.start()
    await group.append(body())
    async with run_console(tmp_path, valkey_url, shard.name) as console, console.visit() as person:

        async def read(key: str) -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = (await person.get("/api/v1/overview")).json()[key]
            return rows

        async def is_known() -> bool:
            return [row["dead"] for row in await read("groups")] == [0]

        async def fires() -> bool:
            return "AckstreamDeadLettersRise" in [alert["name"] for alert in await read("alerts")]

        await until(is_known)
        await server.xadd(shard.dead("g"), {"payload": body()})
        await until(fires)
        alert = next(alert for alert in await read("alerts") if alert["name"] == "AckstreamDeadLettersRise")
        page = (await person.get("/")).text

    assert alert["runbook"] == "/runbooks/dead-letters-rise"
    assert f'href="{alert["runbook"]}"' in page


def test_markup_in_a_runbook_is_text() -> None:
    """HTML of a page is escaped, and a link to a page that the console lacks is plain text."""
    page = render("<b>x</b> [Guarantees](../guarantees.md) [paused](group-paused.md)")

    assert page == '<p>&lt;b&gt;x&lt;/b&gt; <span>Guarantees</span> <a href="/runbooks/group-paused">paused</a></p>\n'
