"""Actions on dead letters: one, a sample or all of a cause, with a counted confirmation and an audit log."""

import html
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from console.web.access.roles import Role
from console.web.actions.replies import DeadLettersReply, DeadReplayReply
from stream.keys import Shard
from tests.support.http.bulk_form import fill_form
from tests.support.http.console_server import ConsoleServer, Visitor, run_console
from tests.support.in_process import run_worker
from tests.support.samples.events import entry
from tests.support.servers.proxy import run_proxy, through
from tests.support.streams.causes import NO_ORDER, add_dead
from tests.support.waiting import until
from worker.events.event import InvalidStatus
from worker.events.vonage import parse

PAGE = "/dead-letters"
TWIN = "/api/v1/dead-letters"
MARKUP = "<script>alert(1)</script>\"'&"


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


async def read(person: Visitor, query: str = "") -> Any:
    """Return the JSON of the page, which is as the API describes it."""
    data = (await person.get(TWIN + query)).json()
    DeadLettersReply.model_validate(data)
    return data


async def test_a_sample_goes_first_and_then_all(
    console: ConsoleServer, server: Redis, shard: Shard, valkey_url: str
) -> None:
    """The page shows how the sample went, and the audit log has both replays with person, number and reason."""
    await add_dead(server, shard, "log", 14)

    async with (
        run_worker(redis_url=valkey_url, stream=shard.name, handlers="log", retention="off"),
        console.visit() as person,
    ):
        sample = await fill_form(person, TWIN, sample="10", expected="10")
        started = await person.post(f"{PAGE}/replay", sample)
        noted = await person.get(started.headers["Location"])

        async def is_judged() -> bool:
            return bool((await read(person))["cause"]["sample"]["is_over"])

        await until(is_judged)
        data = await read(person)
        page = (await person.get(PAGE)).text
        await person.post(f"{PAGE}/replay", await fill_form(person, TWIN, rate="1000"))

        async def is_empty() -> bool:
            return not await server.xlen(shard.dead("log"))

        await until(is_empty)

    assert (started.status, started.headers["Location"]) == (303, f"{PAGE}?cause={sample['cause']}")
    assert "Started: 10 dead letters to log." in noted.text
    assert (data["total"], data["cause"]["sample"]["handled"], data["cause"]["sample"]["failed"]) == (4, 10, 0)
    assert "A sample of 10 went through" in page
    entries = await console.read_audit("dead-letters")
    assert [(entry["action"], entry["count"], entry["why"]) for entry in entries] == [
        ("dead-letters.replay", 10, "fixed"),
        ("dead-letters.replay", 4, "fixed"),
    ]
    assert data["cause"]["sample"]["replay"] in entries[0]["result"]
    assert entries[1]["scope"] == "group=log reason=attempts error=failed: KeyError at orders.py:88"


async def test_a_sample_that_fails_again_is_shown(
    console: ConsoleServer, server: Redis, shard: Shard, valkey_url: str
) -> None:
    """Dead letters that come back count as failed; here the payload is not a status."""
    with pytest.raises(InvalidStatus) as refused:
        parse(entry(b"{}"), "")
    await add_dead(server, shard, "log", 3, f"invalid-status: {refused.value}", payload=b"{}")

    async with (
        run_worker(redis_url=valkey_url, stream=shard.name, handlers="log", retention="off"),
        console.visit() as person,
    ):
        await person.post(f"{PAGE}/replay", await fill_form(person, TWIN, sample="10"))

        async def is_judged() -> bool:
            cause = (await read(person))["cause"]
            return cause is not None and bool(cause["sample"]["is_over"])

        await until(is_judged)
        data = await read(person)
        page = (await person.get(PAGE)).text

    assert (data["cause"]["sample"]["failed"], data["cause"]["sample"]["handled"]) == (3, 0)
    assert "Of a sample of 3, 3 failed again" in page


async def test_nothing_happens_if_the_number_has_changed(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """The dialog returns with the new number; the API answers 409 with it. The audit log has no entry."""
    ids = await add_dead(server, shard, "orders", 4)

    async with console.visit() as person:
        replay, discard = await fill_form(person, TWIN), await fill_form(person, TWIN)
        await server.xdel(shard.dead("orders"), ids[0].redis)
        returned = await person.post(f"{PAGE}/replay", replay)
        refused = await person.post(f"{TWIN}/discard", json={**discard, "expected": 4})

    assert (returned.status, refused.status) == (409, 409)
    assert "Nothing was done: 3 match now." in returned.text
    assert '<dialog id="replay" aria-labelledby="replay-title" data-open>' in returned.text
    assert 'name="expected" value="3"' in returned.text
    assert 'data-url="/live?page=dead-letters"' in returned.text
    assert refused.json()["number"] == 3
    assert await server.xlen(shard.dead("orders")) == 3
    assert not await server.exists(shard.replays("orders"))
    assert await console.read_audit("dead-letters") == []


async def test_a_page_shows_how_its_sample_goes(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """Before a worker copies it, all of the sample wait; the open page gets this from its stream."""
    await add_dead(server, shard, "orders", 12)

    async with console.visit() as person:
        form = await fill_form(person, TWIN, sample="10", expected="10")
        page = (await person.get(f"{PAGE}?cause={form['cause']}")).text
        await person.post(f"{PAGE}/replay", form)
        live = page.partition('data-url="')[2].partition('"')[0]
        async with person.http.get(console.url + html.unescape(live)) as stream:
            sent = (await stream.content.readuntil(b"\r\n\r\n")).decode()

    assert "No sample was replayed yet" in page
    assert "A sample of 10 is on its way" in sent
    assert "0 handled, 0 failed again, 10 wait." in sent


async def test_new_arrivals_do_not_block_an_action(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """A form acts on the dead letters that its page has counted; the API without ``through`` counts all."""
    await add_dead(server, shard, "orders", 2)

    async with console.visit() as person:
        form = await fill_form(person, TWIN)
        await add_dead(server, shard, "orders", 3)
        refused = await person.post(f"{TWIN}/discard", json={"group": "orders", "expected": 2, "why": "old"})
        discard = await person.post(f"{PAGE}/discard", form)

    assert (refused.status, refused.json()["number"], discard.status) == (409, 5, 303)
    assert await server.xlen(shard.dead("orders")) == 3


async def test_discard_needs_the_typed_number(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """The page asks to type the number; without it, or with another one, nothing is dropped."""
    await add_dead(server, shard, "orders", 1)
    await add_dead(server, shard, "orders", 1, NO_ORDER)
    await add_dead(server, shard, "orders", 2)

    async with console.visit() as person:
        form = await fill_form(person, TWIN)
        page = (await person.get(PAGE)).text
        missing = await person.post(f"{PAGE}/discard", {**form, "expected": ""})
        wrong = await person.post(f"{PAGE}/discard", {**form, "expected": "4"})
        unreasoned = await person.post(f"{PAGE}/discard", {**form, "why": " "})
        length = await server.xlen(shard.dead("orders"))
        discard = await person.post(f"{PAGE}/discard", form)

    assert "Type 3 to confirm" in page
    assert (missing.status, wrong.status, unreasoned.status, discard.status, length) == (400, 409, 400, 303, 4)
    assert await server.xlen(shard.dead("orders")) == 1
    (entry,) = await console.read_audit("dead-letters")
    assert (entry["action"], entry["count"], entry["why"], entry["result"]) == (
        "dead-letters.discard",
        3,
        "fixed",
        "3 discarded",
    )


async def test_one_dead_letter_alone(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """Its page has the last attempts; replay and discard act on it only; a second time nothing is left to act on."""
    first, second = await add_dead(server, shard, "orders", 2)

    async with console.visit() as person:
        page = await person.get(f"{PAGE}/letter?group=orders&id={quote(str(first))}")
        form = {"group": "orders", "ids": str(first), "expected": "1", "why": "test"}
        discard = await person.post(f"{PAGE}/discard", form)
        again = await person.post(f"{PAGE}/discard", form)
        gone = await person.get(f"{PAGE}/letter?group=orders&id={quote(str(first))}")
        started = await person.post(f"{TWIN}/replay", json={**form, "ids": [str(second)], "expected": 1})

    assert page.text.count("<code>KeyError</code>") == 8
    assert (discard.status, again.headers["Location"], gone.status) == (303, PAGE, 404)
    assert await server.xlen(shard.dead("orders")) == 1
    (replay,) = DeadReplayReply.model_validate(started.json()).replays
    assert (started.json()["count"], replay.total) == (1, 1)


async def test_a_viewer_cannot_act(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """The page says so, its buttons are disabled, and the server refuses the forms and the JSON."""
    await add_dead(server, shard, "orders", 2)

    async with console.visit(Role.VIEWER) as viewer:
        page = (await viewer.get(PAGE)).text
        form = await fill_form(viewer, TWIN)
        answers = [await viewer.post(f"{path}/{act}", form) for path in (PAGE, TWIN) for act in ("replay", "discard")]

    assert "Your role, viewer, can look but not act." in page
    assert "<dialog" not in page
    assert [answer.status for answer in answers] == [403] * 4
    assert await server.xlen(shard.dead("orders")) == 2


async def test_a_replay_needs_a_registered_group(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """A dropped group may have dead letters, and nobody would copy them: nothing happens, and the page says why."""
    await add_dead(server, shard, "orders")
    await server.srem(shard.groups, "orders")
    form = {"group": "orders", "expected": "1", "why": "test"}

    async with console.visit() as person:
        answer = await person.post(f"{PAGE}/replay", form)
        page = (await person.get(answer.headers["Location"])).text
        twin = await person.post(f"{TWIN}/replay", json={**form, "expected": 1})

    assert "Nothing was done." in page
    assert (twin.status, "no group &#39;orders&#39; is registered" in page) == (409, True)
    assert await server.xlen(shard.dead("orders")) == 1


async def test_the_page_comes_back_with_redis(tmp_path: Path, valkey_url: str, server: Redis, shard: Shard) -> None:
    """While Redis is away, the page says so and asks again by itself; an action that it interrupts is recorded."""
    await add_dead(server, shard, "orders", 2)
    async with (
        run_proxy(int(valkey_url.rpartition(":")[2])) as proxy,
        run_console(tmp_path, through(proxy, valkey_url), shard.name) as console,
        console.visit() as person,
    ):
        form = await fill_form(person, TWIN)
        proxy.refuses = True
        proxy.cut()
        away, twin = await person.get(PAGE), await person.get(TWIN)
        interrupted = await person.post(f"{PAGE}/discard", form)
        refused = await person.post(f"{TWIN}/discard", json={**form, "expected": 2})
        proxy.refuses = False

        async def is_back() -> bool:
            return (await person.get(PAGE)).status == 200

        await until(is_back)
        entries = await console.read_audit("dead-letters")

    assert (away.status, twin.status, interrupted.status, refused.status) == (503, 503, 303, 503)
    assert "Redis does not answer" in away.text
    assert "data-retry" in away.text
    assert [entry["result"] for entry in entries] == ["interrupted: Redis does not answer"] * 2
    assert await server.xlen(shard.dead("orders")) == 2
