"""The pages of dead letters: few causes, one of them open, and actions with a counted confirmation."""

import html
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from console.web.access.roles import Role
from console.web.actions.replies import DeadLetterPageReply, DeadLettersReply
from stream.keys import Shard
from tests.support.http.bulk_form import fill_form
from tests.support.http.console_server import ConsoleServer, Visitor, run_console
from tests.support.samples.events import body
from tests.support.streams.causes import NO_ORDER, NUMBER, add_dead

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
    masked = hidden[-1].json()
    assert (masked["payload"], masked["error_message"], masked["fields"]) == (None, None, {})
    assert [answer.status for answer in (*refused, unreasoned, by_get)] == [403, 403, 400, 405]
    assert f"no zone for {NUMBER}" in page.text
    assert DeadLetterPageReply.model_validate(twin.json()).errors[0]["place"] == "orders.py:88"
    assert (twin.json()["error_message"], NUMBER in twin.json()["payload"]) == (f"no zone for {NUMBER}", True)
    entries = await console.read_audit("dead-letters.reveal")
    assert [(entry["count"], entry["why"], entry["scope"]) for entry in entries] == [
        (1, "ticket 7", f"group=orders id={letter_id}")
    ] * 2


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
        pages += [await person.post(f"{PAGE}/discard", await fill_form(person, TWIN, expected="9", why=MARKUP))]

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
        page = (await person.get(f"{PAGE}?cause=0123456789ab")).text

    assert "No group yet." in before
    assert "No dead letters. Every group has handled what it was given." in well
    assert "No dead letters of orders received since" in nothing
    assert "No dead letter has this cause any more" in page


async def test_a_long_list_is_counted_in_part(
    console: ConsoleServer, server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says how many were counted, and names the command that covers all."""
    monkeypatch.setattr("console.queries.causes.dead.COUNTED_AT_MOST", 5)
    await add_dead(server, shard, "orders", 30)

    async with console.visit() as person:
        page = (await person.get(PAGE)).text
        form = await fill_form(person, TWIN)
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
