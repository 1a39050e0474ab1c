"""The page of invalid payloads: grouped by error and signature, parsed again on request."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from console.web.access.roles import Role
from console.web.actions.replies import InvalidPayloadReply, InvalidReply
from stream.keys import Shard
from tests.support.http.bulk_form import fill_form
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.samples.events import body
from tests.support.streams.causes import NUMBER, add_invalid

PAGE = "/invalid"
TWIN = "/api/v1/invalid"
MARKUP = "<script>alert(1)</script>\"'&"
JUNK = b'{"to":"%b"}' % NUMBER.encode()


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


async def test_causes_and_what_is_a_status_today(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """Payloads are grouped by error and signature, with the number of those that parse now."""
    await add_invalid(server, shard, JUNK, JUNK, body(message_uuid="m-7"), error="no message id")
    await add_invalid(server, shard, b"x", error="no JSON", signature="missing")

    async with console.visit(Role.VIEWER) as person:
        data = (await person.get(TWIN)).json()
        InvalidReply.model_validate(data)
        page = (await person.get(PAGE)).text

    assert [(row["error"], row["signature"], row["count"], row["good"]) for row in data["causes"]] == [
        ("no message id", "wrong", 3, 1),
        ("no JSON", "missing", 1, 0),
    ]
    assert "4 invalid payloads, 2 causes" in page
    assert "1 payload of this cause is a status today" in page


async def test_a_sample_and_then_all_are_parsed_again(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """Those that are a status go to the stream, the others stay; the audit log has both numbers."""
    await add_invalid(server, shard, *[b"x%d" % number for number in range(3)], error="odd")
    await add_invalid(server, shard, *[body(message_uuid=f"m-{number}") for number in range(10)], error="odd")

    async with console.visit() as person:
        sample = await person.post(f"{PAGE}/replay", await fill_form(person, TWIN, sample="10", expected="10"))
        appended = await server.xlen(shard.stream)
        noted = (await person.get(sample.headers["Location"])).text
        rest = await person.post(f"{TWIN}/replay", json=await fill_form(person, TWIN))

    assert (appended, await server.xlen(shard.stream), await server.xlen(shard.invalid)) == (10, 10, 3)
    assert "10 of 10 are a status now. Every group gets them." in noted
    assert rest.json() == {"count": 3, "replayed": 0, "still_invalid": 3}
    entries = await console.read_audit("invalid")
    assert [(entry["action"], entry["count"], entry["scope"], entry["result"]) for entry in entries] == [
        ("invalid.replay", 10, "error=odd signature=wrong sample=10", "10 replayed, 0 still invalid"),
        ("invalid.replay", 3, "error=odd signature=wrong", "0 replayed, 3 still invalid"),
    ]


async def test_discard_counts_again(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """With another number nothing is dropped; with the typed one the payloads of this cause are."""
    ids = await add_invalid(server, shard, b"1", b"2", b"3", error="odd")
    await add_invalid(server, shard, b"4", error="other")

    async with console.visit() as person:
        form = await fill_form(person, TWIN)
        await server.xdel(shard.invalid, ids[0].partition("/")[2])
        changed = await person.post(f"{PAGE}/discard", form)
        length = await server.xlen(shard.invalid)
        discard = await person.post(f"{PAGE}/discard", {**form, "expected": "2"})

    assert (changed.status, length, discard.status) == (409, 3, 303)
    assert '<dialog id="discard" aria-labelledby="discard-title" data-open>' in changed.text
    assert "Type 2 to confirm" in changed.text
    assert await server.xlen(shard.invalid) == 1
    assert [entry["count"] for entry in await console.read_audit("invalid")] == [2]


async def test_one_payload(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """Its page hides the content until a reveal, which an operator may ask for, with a reason, and is recorded."""
    (payload_id,) = await add_invalid(server, shard, JUNK, error=f"no id for {NUMBER}")
    query = f"?id={quote(payload_id)}"
    form = {"id": payload_id, "why": "ticket 7"}

    async with console.visit() as person, console.visit(Role.VIEWER) as viewer:
        paths = [PAGE, TWIN, f"{PAGE}/payload{query}", f"{TWIN}/payload{query}"]
        hidden = [await who.get(path) for path in paths for who in (person, viewer)]
        refused = [await viewer.post(f"{path}/reveal", form) for path in (PAGE, TWIN)]
        unreasoned = await person.post(f"{PAGE}/reveal", {"id": payload_id})
        revealed = [await person.post(f"{path}/reveal", form) for path in (PAGE, TWIN)]
        discard = await person.post(f"{PAGE}/discard", {"ids": payload_id, "expected": "1", "why": "junk"})
        gone = await person.get(f"{PAGE}/payload{query}")

    assert [answer.status for answer in (*hidden, *refused, unreasoned)] == [200] * 8 + [403, 403, 400]
    for answer in (*hidden, *refused, unreasoned):
        assert NUMBER not in answer.text
        assert "ref=7" not in answer.text
    for answer in revealed:
        assert NUMBER in answer.text
        assert "ref=7" in answer.text
    assert InvalidPayloadReply.model_validate(revealed[1].json()).is_revealed
    assert (discard.status, gone.status) == (303, 404)
    entries = await console.read_audit("invalid")
    assert [(entry["action"], entry["scope"], entry["why"]) for entry in entries] == [
        ("invalid.reveal", f"id={payload_id}", "ticket 7"),
        ("invalid.reveal", f"id={payload_id}", "ticket 7"),
        ("invalid.discard", f"id={payload_id}", "junk"),
    ]


async def test_older_payloads_are_on_further_pages(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """Each page starts before the last id of the one before it."""
    ids = await add_invalid(server, shard, *[b"%d" % number for number in range(12)], error="odd")

    async with console.visit() as person:
        first = (await person.get(TWIN)).json()["cause"]
        older = (await person.get(f"{TWIN}?before={quote(first['older'])}&position=10")).json()["cause"]

    assert [row["id"] for row in first["payloads"] + older["payloads"]] == ids[::-1]
    assert older["older"] is None


async def test_markup_is_escaped(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """Error, signature, payload and reason come out as text."""
    (payload_id,) = await add_invalid(server, shard, MARKUP.encode(), error=f"e{MARKUP}", signature=f"s{MARKUP}")

    async with console.visit() as person:
        pages = [await person.get(path) for path in (PAGE, f"{PAGE}/payload?id={quote(payload_id)}")]
        pages.append(await person.post(f"{PAGE}/reveal", {"id": payload_id, "why": MARKUP}))
        pages.append(await person.post(f"{PAGE}/discard", await fill_form(person, TWIN, expected="2", why=MARKUP)))

    assert [page.status for page in pages] == [200, 200, 200, 409]
    for page in pages:
        assert "<script>alert" not in page.text
        assert "e&lt;script&gt;alert(1)" in page.text


async def test_an_empty_record(console: ConsoleServer) -> None:
    """The page says that the record is empty, and an action on nothing does nothing."""
    async with console.visit() as person:
        page = (await person.get(PAGE)).text
        refused = await person.post(f"{TWIN}/discard", json={"expected": 0, "why": "x"})

    assert "No invalid payloads." in page
    assert (refused.status, refused.json()["number"]) == (409, 0)
