"""The pages of dead letters: few causes, one of them open, and actions with a counted confirmation."""

import html
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from console.web.access.roles import Role
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, Visitor, run_console
from tests.support.in_process import working
from tests.support.samples.events import body, entry
from tests.support.servers.proxy import proxying, through
from tests.support.streams.causes import NO_ORDER, NUMBER, add_dead
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
    """Return the JSON of the page."""
    return (await person.get(TWIN + query)).json()


async def describe_action(person: Visitor, **changes: str) -> dict[str, str]:
    """Return the form of an action on all dead letters of the first cause, as the page has it."""
    data = await read(person)
    cause = data["cause"]
    count = str(cause["count"])
    form = {"group": cause["group"], "cause": cause["cause"], "through": data["through"], "expected": count}
    return {**form, "why": "fixed", **changes}


async def test_causes_of_several_groups(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """Dead letters are grouped by group, reason and error; the most frequent cause is open, with its newest ten."""
    await add_dead(server, shard, "orders", 12)
    await add_dead(server, shard, "crm", 2)
    await add_dead(server, shard, "orders", 1, NO_ORDER)

    async with console.visit(Role.VIEWER) as person:
        data = await read(person)
        page = (await person.get(PAGE)).text
        crm = await read(person, "?group=crm")
        older = await read(
            person, f"?cause={data['cause']['cause']}&before={quote(data['cause']['older'])}&position=10"
        )

    assert [(row["group"], row["reason"], row["count"]) for row in data["causes"]] == [
        ("orders", "attempts", 12),
        ("crm", "attempts", 2),
        ("orders", "discarded", 1),
    ]
    assert (data["total"], data["is_complete"], data["groups"]) == (15, True, ["crm", "orders"])
    assert [letter["message"] for letter in data["cause"]["letters"]] == [f"m-{place}" for place in range(11, 1, -1)]
    assert [letter["message"] for letter in older["cause"]["letters"]] == ["m-1", "m-0"]
    assert [(row["group"], row["count"]) for row in crm["causes"]] == [("crm", 2)]
    for text in (
        "15 dead letters, 3 causes",
        "orders gave up 12 statuses",
        "<code>KeyError at orders.py:88</code>",
        "Discarded by the handler",
        "It still happens: 12 in the last hour.",
        "ackstream dead-letters list --group orders --reason attempts --error &#39;failed: KeyError",
    ):
        assert text in page


async def test_a_sample_goes_first_and_then_all(
    console: ConsoleServer, server: Redis, shard: Shard, valkey_url: str
) -> None:
    """The page shows how the sample went, and the audit log has both replays with person, number and reason."""
    await add_dead(server, shard, "log", 14)

    async with (
        working(redis_url=valkey_url, stream=shard.name, handlers="log", retention="off"),
        console.visit() as person,
    ):
        sample = await describe_action(person, sample="10", expected="10")
        started = await person.post(f"{PAGE}/replay", sample)
        noted = await person.get(started.headers["Location"])

        async def is_judged() -> bool:
            return bool((await read(person))["cause"]["sample"]["is_over"])

        await until(is_judged)
        data = await read(person)
        page = (await person.get(PAGE)).text
        await person.post(f"{PAGE}/replay", await describe_action(person, rate="1000"))

        async def is_empty() -> bool:
            return not await server.xlen(shard.dead("log"))

        await until(is_empty)

    assert (started.status, started.headers["Location"]) == (303, f"{PAGE}?cause={sample['cause']}")
    assert "Started: 10 dead letters of log go to it again." in noted.text
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
        working(redis_url=valkey_url, stream=shard.name, handlers="log", retention="off"),
        console.visit() as person,
    ):
        await person.post(f"{PAGE}/replay", await describe_action(person, sample="10"))

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
        replay, discard = await describe_action(person), await describe_action(person)
        await server.xdel(shard.dead("orders"), ids[0].redis)
        returned = await person.post(f"{PAGE}/replay", replay)
        refused = await person.post(f"{TWIN}/discard", json={**discard, "expected": 4})

    assert (returned.status, refused.status) == (409, 409)
    assert "Nothing was done: 3 match now." in returned.text
    assert '<dialog id="replay" aria-labelledby="replay-title" data-open>' in returned.text
    assert 'name="expected" value="3"' in returned.text
    assert refused.json()["number"] == 3
    assert await server.xlen(shard.dead("orders")) == 3
    assert not await server.exists(shard.replays("orders"))
    assert await console.read_audit("dead-letters") == []


async def test_new_arrivals_do_not_block_an_action(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """A form acts on the dead letters that its page has counted; the API without ``through`` counts all."""
    await add_dead(server, shard, "orders", 2)

    async with console.visit() as person:
        form = await describe_action(person)
        await add_dead(server, shard, "orders", 3)
        refused = await person.post(f"{TWIN}/discard", json={"group": "orders", "expected": 2, "why": "old"})
        done = await person.post(f"{PAGE}/discard", form)

    assert (refused.status, refused.json()["number"], done.status) == (409, 5, 303)
    assert await server.xlen(shard.dead("orders")) == 3


async def test_discard_needs_the_typed_number(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """The page asks to type the number; without it, or with another one, nothing is dropped."""
    await add_dead(server, shard, "orders", 3)
    await add_dead(server, shard, "orders", 1, NO_ORDER)

    async with console.visit() as person:
        form = await describe_action(person)
        page = (await person.get(PAGE)).text
        missing = await person.post(f"{PAGE}/discard", {**form, "expected": ""})
        wrong = await person.post(f"{PAGE}/discard", {**form, "expected": "4"})
        unreasoned = await person.post(f"{PAGE}/discard", {**form, "why": " "})
        kept = await server.xlen(shard.dead("orders"))
        done = await person.post(f"{PAGE}/discard", form)

    assert "Type 3 to confirm" in page
    assert (missing.status, wrong.status, unreasoned.status, done.status, kept) == (400, 409, 400, 303, 4)
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
        done = await person.post(f"{PAGE}/discard", form)
        again = await person.post(f"{PAGE}/discard", form)
        gone = await person.get(f"{PAGE}/letter?group=orders&id={quote(str(first))}")
        started = await person.post(f"{TWIN}/replay", json={**form, "ids": [str(second)], "expected": 1})

    assert page.text.count("<code>KeyError</code>") == 8
    assert (done.status, again.headers["Location"], gone.status) == (303, PAGE, 404)
    assert await server.xlen(shard.dead("orders")) == 1
    (replay,) = started.json()["replays"]
    assert (started.json()["count"], replay["total"]) == (1, 1)


async def test_private_parts_are_shown_only_by_a_reveal(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """No page and no JSON has a number or an error message, except the answer to an operator's reveal."""
    (letter_id,) = await add_dead(server, shard, "orders", error=f"discarded: no customer {NUMBER}")
    query = f"?group=orders&id={quote(str(letter_id))}"
    form = {"group": "orders", "id": str(letter_id), "why": "ticket 7"}

    async with console.visit() as person, console.visit(Role.VIEWER) as viewer:
        hidden = [await person.get(path) for path in (PAGE, TWIN, f"{PAGE}/letter{query}", f"{TWIN}/letter{query}")]
        refused = [await viewer.post(f"{path}/reveal", form) for path in (PAGE, TWIN)]
        unreasoned = await person.post(f"{PAGE}/reveal", {**form, "why": ""})
        by_get = await person.get(f"{PAGE}/reveal{query}")
        page = await person.post(f"{PAGE}/reveal", form)
        twin = await person.post(f"{TWIN}/reveal", json=form)

    for answer in (*hidden, *refused, unreasoned, by_get):
        assert NUMBER not in answer.text
        assert "no zone for" not in answer.text
    assert [answer.status for answer in hidden] == [200] * 4
    assert [answer.status for answer in (*refused, unreasoned, by_get)] == [403, 403, 400, 405]
    assert f"no zone for {NUMBER}" in page.text
    assert (twin.json()["error_message"], NUMBER in twin.json()["payload"]) == (f"no zone for {NUMBER}", True)
    entries = await console.read_audit("dead-letters.reveal")
    assert [(entry["count"], entry["why"], entry["scope"]) for entry in entries] == [
        (1, "ticket 7", f"group=orders id={letter_id}")
    ] * 2


async def test_a_viewer_cannot_act(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """The page says so, its buttons are disabled, and the server refuses the forms and the JSON."""
    await add_dead(server, shard, "orders", 2)

    async with console.visit(Role.VIEWER) as viewer:
        page = (await viewer.get(PAGE)).text
        form = await describe_action(viewer)
        answers = [await viewer.post(f"{path}/{act}", form) for path in (PAGE, TWIN) for act in ("replay", "discard")]

    assert "Your role, viewer, can look but not act." in page
    assert "<dialog" not in page
    assert [answer.status for answer in answers] == [403] * 4
    assert await server.xlen(shard.dead("orders")) == 2


async def test_markup_is_escaped(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """Group, error, message, client_ref, class and place of an attempt come out as text."""
    payload = body(message_uuid=f"m{MARKUP}", client_ref=f"ref{MARKUP}", status=f"s{MARKUP}", to=f"to{MARKUP}")
    errors = '[{"class":"C<script>x","place":"<img src=x>","ms":1}]'
    (letter_id,) = await add_dead(
        server, shard, f"g{MARKUP}", 1, f"r{MARKUP}: e{MARKUP}", payload=payload, message=f"text{MARKUP}", errors=errors
    )
    query = f"?group={quote(f'g{MARKUP}')}&id={quote(str(letter_id))}"

    async with console.visit() as person:
        pages = [await person.get(path) for path in (PAGE, f"{PAGE}?group={quote(MARKUP)}", f"{PAGE}/letter{query}")]
        pages += [await person.post(f"{PAGE}/reveal", {"group": f"g{MARKUP}", "id": str(letter_id), "why": MARKUP})]
        pages += [await person.post(f"{PAGE}/discard", await describe_action(person, expected="9", why=MARKUP))]

    assert [page.status for page in pages] == [200, 200, 200, 200, 409]
    for page in pages:
        assert "<script>alert" not in page.text
        assert "<img" not in page.text
    for text in ("g", "r", "e", "m", "ref"):
        assert html.escape(f"{text}{MARKUP}", quote=False).partition('"')[0] in pages[2].text
    assert "text&lt;script&gt;" in pages[3].text


async def test_pages_without_data(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """The page says whether all is well, whether no worker has run, or that nothing matches."""
    async with console.visit() as person:
        before = (await person.get(PAGE)).text
        await server.sadd(shard.groups, "orders")
        well = (await person.get(PAGE)).text
        nothing = (await person.get(f"{PAGE}?group=orders&since=24h")).text
        gone = (await person.get(f"{PAGE}?cause=0123456789ab")).text

    assert "No group yet." in before
    assert "No dead letters. Every group has handled what it was given." in well
    assert "No dead letters of orders received since" in nothing
    assert "No dead letter has this cause any more" in gone


async def test_a_long_list_is_counted_in_part(
    console: ConsoleServer, server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says how many were counted, and names the command that covers all."""
    monkeypatch.setattr("console.queries.causes.dead.COUNTED_AT_MOST", 5)
    await add_dead(server, shard, "orders", 30)

    async with console.visit() as person:
        page = (await person.get(PAGE)).text
        form = await describe_action(person)
        await person.post(f"{PAGE}/discard", form)

    assert "30 dead letters, 1 cause among the newest 5" in page
    assert "Counted among the newest 5 of 30. An action here covers only those;" in page
    assert form["expected"] == "5"
    assert await server.xlen(shard.dead("orders")) == 25


async def test_an_open_page_learns_of_new_dead_letters(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """The stream sends the keys of the newest ones, which sort by time; the rows of the page stay."""
    await add_dead(server, shard, "orders")

    async with console.visit(Role.VIEWER) as person:
        page = (await person.get(PAGE)).text
        newest = page.partition('data-newest="')[2].partition('"')[0]
        await add_dead(server, shard, "orders")
        async with person.http.get(f"{console.url}/live?page=dead-letters") as stream:
            sent = (await stream.content.readuntil(b"\r\n\r\n")).decode()
    keys = sent.partition('data-keys="')[2].partition('"')[0].split()

    assert newest in page.partition('data-keys="')[2]
    assert keys == sorted(keys, reverse=True)
    assert keys.index(newest) == 1


@pytest.mark.parametrize(
    "query", ["?cause=x", "?before=1-0", "?position=-1", "?since=yesterday", "?colour=red", f"?group={'x' * 201}"]
)
async def test_wrong_parameters_are_refused(console: ConsoleServer, query: str) -> None:
    """Each parameter has a limit."""
    async with console.visit() as person:
        assert [(await person.get(path + query)).status for path in (PAGE, TWIN)] == [400, 400]


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
        proxying(int(valkey_url.rpartition(":")[2])) as proxy,
        run_console(tmp_path, through(proxy, valkey_url), shard.name) as console,
        console.visit() as person,
    ):
        form = await describe_action(person)
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
