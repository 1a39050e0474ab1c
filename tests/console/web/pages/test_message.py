"""The page of one message."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiosqlite
import pytest
from redis.asyncio import Redis

from console.web.access.roles import Role
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.samples.events import body
from tests.support.servers.proxy import run_proxy, through
from tests.support.streams.stored_messages import store_stream
from tests.support.workers.failing_group import FailingGroup
from worker.replay.repository import Replays
from worker.sources import Source
from worker.store.migrate import migrate_at

NUMBER = "447700900042"
PAGE = "/messages/m-1"
TWIN = "/api/v1/messages/m-1"
DEAD_LETTER = {"group": "g", "source": "dead", "why": "again"}
MARKUP = "<script>alert(1)</script>\"'&"


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


@pytest.fixture
async def group(server: Redis, shard: Shard, console: ConsoleServer) -> FailingGroup:
    """A group that gave up one status of m-1, which came through the spool, and handled another one."""
    group = FailingGroup(server, shard)
    await group.start()
    now_ms = int(time.time() * 1000)
    await group.append(body(message_uuid="m-1", status="submitted", to=NUMBER), received_ms=now_ms, verified="jwt")
    await group.handle()
    group.fails.add("m-1")
    error = {"title": "1000", "detail": f"{NUMBER} is throttled"}
    payload = body(message_uuid="m-1", to=NUMBER, client_ref="order-7", error=error)
    await group.append(payload, received_ms=now_ms - 5000)
    await group.handle()
    await group.give_up()
    await store_stream(console.settings.database_url, server, shard)
    return group


async def test_the_timeline_has_spool_failure_dead_letter_and_replay(
    console: ConsoleServer, group: FailingGroup
) -> None:
    """The page shows the way of each webhook, and after a replay that the group has handled it."""
    async with console.visit() as person:
        before = (await person.get(PAGE)).text
        (row,) = (await person.get(TWIN)).json()["groups"]
        answer = await person.post(
            f"{PAGE}/replay", {"group": "g", "source": "dead", "expected": "1", "why": "fixed <b>it</b>"}
        )
        group.fails.clear()
        await group.copy_replays()
        await group.handle(Source.REPLAY)
        after = (await person.get(PAGE)).text

    for text in ("Moved to Redis after 5.", "g gave it up: dead letter", "All 3 attempts failed", "ValueError"):
        assert text in before
    assert (row["state"], len(row["dead_letters"])) == ("dead letter", 1)
    assert (answer.status, answer.headers["Location"]) == (303, PAGE)
    assert after.index("Replayed to g") < after.index("Handled by g")
    assert "Settled by g after the replay" not in after
    assert "fixed &lt;b&gt;it&lt;/b&gt;" in after


async def test_numbers_are_masked_until_a_reveal(console: ConsoleServer, group: FailingGroup) -> None:
    """Neither page nor JSON has the number or the error message; an operator's reveal shows both and is recorded."""
    assert group
    async with console.visit() as person, console.visit(Role.VIEWER) as viewer:
        masked = [(await who.get(path)).text for who in (person, viewer) for path in (PAGE, TWIN)]
        refused = [await viewer.post(f"{path}/reveal", {"why": "curious"}) for path in (PAGE, TWIN)]
        unreasoned = await person.post(f"{PAGE}/reveal", {"why": " "})
        page = await person.post(f"{PAGE}/reveal", {"why": "ticket 7"})
        twin = await person.post(f"{TWIN}/reveal", json={"why": "ticket 8"})

    assert all(NUMBER not in text and "0042" in text for text in masked)
    assert [answer.status for answer in refused] == [403, 403]
    assert unreasoned.status == 400
    assert f"no route to {NUMBER}" in page.text
    assert f"{NUMBER} is throttled" in page.text
    assert "The account sends faster than it may." in page.text
    assert twin.json()["message"]["to"] == NUMBER
    records = await _audit(console, "messages.reveal")
    assert [(record["scope"], record["why"]) for record in records] == [
        ("message=m-1", "ticket 7"),
        ("message=m-1", "ticket 8"),
    ]


async def test_a_replay_needs_the_number_that_the_person_saw(
    console: ConsoleServer, group: FailingGroup, server: Redis, shard: Shard
) -> None:
    """With another number nothing starts and the dialog returns; the right one copies exactly these entries."""
    async with console.visit() as person, console.visit(Role.VIEWER) as viewer:
        wrong = await person.post(f"{PAGE}/replay", {"group": "g", "expected": "3", "why": "again"})
        stranger = await person.post(f"{TWIN}/replay", json={"group": "nobody", "expected": 2, "why": "again"})
        other = await person.post("/api/v1/messages/ok/replay", json={**DEAD_LETTER, "expected": 1})
        refused = await viewer.post(f"{PAGE}/replay", {"group": "g", "expected": "2", "why": "again"})
        assert await Replays(group.ref).all() == []
        started = await person.post(f"{TWIN}/replay", json={"group": "g", "expected": 2, "why": "again"})

    assert (wrong.status, stranger.status, other.status, refused.status) == (409, 409, 409, 403)
    assert "There are 2 now. Nothing was replayed." in wrong.text
    assert "data-open" in wrong.text
    assert (started.status, started.json()["entries"]) == (200, 2)
    await group.copy_replays()
    assert await server.xlen(shard.replay("g")) == 2
    (record,) = await _audit(console, "messages.replay")
    assert (record["count"], record["why"]) == (2, "again")


async def test_markup_in_every_field_is_text(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """Script and markup in a payload, account, signature, group name or id is escaped."""
    group = FailingGroup(server, shard, MARKUP)
    await group.start()
    await server.sadd(shard.groups, f"g{MARKUP}")
    fields = dict.fromkeys(("message_uuid", "status", "to", "from", "channel", "client_ref"), MARKUP)
    more = {"error": {"title": MARKUP, "detail": MARKUP}, "usage": {"currency": MARKUP, "price": "1"}, MARKUP: MARKUP}
    payload = body(**fields, **more, destination={"network_code": MARKUP}, workflow={"id": MARKUP})
    origin = {"account": MARKUP, "application": MARKUP, "signature": MARKUP, "query": f"a={MARKUP}".encode()}
    await group.append(payload, content_type=MARKUP, **origin)
    await group.handle()
    await group.give_up()
    await store_stream(console.settings.database_url, server, shard)

    path = "/messages/%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27%26"
    async with console.visit() as person:
        page = await person.get(path)
        revealed = await person.post(f"{path}/reveal", {"why": MARKUP})
        missing = await person.get("/messages/%3Cscript%3Ealert(2)")

    for answer in (page, revealed):
        assert answer.status == 200
        assert "<script>" not in answer.text
        assert answer.text.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10
    assert missing.status == 404
    assert "<script>alert" not in missing.text


async def test_a_message_that_the_tables_lack_is_shown_as_waiting(
    console: ConsoleServer, server: Redis, shard: Shard
) -> None:
    """Its unread entry is found by the id of the message, and a settled one by the id of the entry."""
    group = FailingGroup(server, shard)
    await group.start()
    entry = await group.append(body(message_uuid="m-1", to=NUMBER))
    async with console.visit() as person:
        unread = (await person.get(PAGE)).text
        await group.handle()
        settled = await person.get(PAGE)
        by_entry = (await person.get(f"{TWIN}?entry={entry}")).json()

    assert "This message is not in the tables yet." in unread
    assert "Not read yet by g" in unread
    assert settled.status == 404
    assert by_entry["is_stored"] is False
    assert by_entry["groups"][0]["state"] == "settled"
    assert by_entry["message"]["to"] == "********0042"


async def test_without_the_database_redis_answers_and_the_rest_comes_back(
    tmp_path: Path, valkey_url: str, server: Redis, shard: Shard
) -> None:
    """The page says which part is away, shows the other's facts, and is whole again afterwards."""
    group = FailingGroup(server, shard, "m-1")
    await group.start()
    await group.append(body(message_uuid="m-1"))
    await group.handle()
    url = f"sqlite:///{tmp_path / 'late.db'}"
    async with run_console(tmp_path, valkey_url, shard.name, database_url=url) as console, console.visit() as person:
        away = await person.get(PAGE)
        unknown = await person.get("/messages/m-2")
        await migrate_at(url)
        await store_stream(url, server, shard)
        back = await person.get(PAGE)

    assert (away.status, unknown.status, back.status) == (200, 503, 200)
    assert "The database does not answer" in away.text
    assert "g will try again" in away.text
    assert "The database does not answer" not in back.text


async def test_without_redis_the_tables_answer(
    tmp_path: Path, valkey_url: str, group: FailingGroup, console: ConsoleServer, shard: Shard
) -> None:
    """The page says that Redis is away, shows the webhooks without groups, and is whole again afterwards."""
    assert group
    port = int(valkey_url.rpartition(":")[2])
    data = tmp_path / "second"
    async with run_proxy(port) as proxy:
        settings = {"database_url": console.settings.database_url}
        async with (
            run_console(data, through(proxy, valkey_url), shard.name, **settings) as second,
            second.visit() as person,
        ):
            proxy.refuses = True
            proxy.cut()
            away = await person.get(PAGE)
            proxy.refuses = False
            back = await person.get(PAGE)

    assert away.status == 200
    assert "Redis does not answer" in away.text
    assert 'hx-get="/messages/m-1" hx-trigger="every 5s"' in away.text
    assert "g gave it up" not in away.text
    assert "order-7" in away.text
    assert "g gave it up" in back.text


async def test_an_unknown_message_says_where_it_was_searched(console: ConsoleServer) -> None:
    """The page is 404 and names the places; so is the JSON."""
    async with console.visit() as person:
        page, twin = await person.get("/messages/nobody"), await person.get("/api/v1/messages/nobody")

    assert (page.status, twin.status) == (404, 404)
    assert "nobody is not in the tables" in page.text
    assert "nobody" in twin.json()["error"]


async def _audit(console: ConsoleServer, action: str) -> list[dict[str, object]]:
    async with aiosqlite.connect(console.settings.console_database) as database:
        database.row_factory = aiosqlite.Row
        rows = await database.execute_fetchall("SELECT * FROM audit WHERE action = ? ORDER BY id", (action,))
        return [dict(row) for row in rows]
