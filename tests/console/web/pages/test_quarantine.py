"""The page of the quarantine: verified again with the current secrets, accepted only when right or by an admin."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from console.web.access.roles import Role
from console.web.actions.replies import QuarantineReply, RefusedPayloadReply
from stream.entry import Entry
from stream.keys import Shard
from tests.support.http.bulk_form import fill_form
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.samples.events import body
from tests.support.samples.tokens import ACCOUNT, OTHER_SECRET, SECRET, bearer, claims, token
from tests.support.streams.causes import NUMBER, add_refused

PAGE = "/quarantine"
TWIN = "/api/v1/quarantine"
MARKUP = "<script>alert(1)</script>\"'&"


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    secrets = f"{ACCOUNT}:{SECRET.decode()}"
    async with run_console(tmp_path, valkey_url, shard.name, signature_secrets=secrets) as running:
        yield running


def forge(payload: bytes) -> list[str]:
    """Return the headers of a payload that another secret signed."""
    return [f"Bearer {token(claims(payload), secret=OTHER_SECRET)}"]


async def fill(server: Redis, shard: Shard) -> None:
    """Keep three payloads that are right now, and two forged ones."""
    for number in range(3):
        await add_refused(server, shard, body(message_uuid=f"m-{number}", to=NUMBER))
    for number in range(2):
        payload = body(message_uuid=f"x-{number}")
        await add_refused(server, shard, payload, headers=forge(payload))


async def test_payloads_are_verified_again(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """The page shows for each reason and account how many would be accepted now, and changes nothing."""
    await fill(server, shard)
    await add_refused(server, shard, b"{}", reason="age", headers=bearer(b"{}", iat=1))

    async with console.visit(Role.VIEWER) as person:
        data = (await person.get(TWIN)).json()
        QuarantineReply.model_validate(data)
        page = (await person.get(PAGE)).text

    assert [(row["reason"], row["account"], row["count"], row["good"]) for row in data["causes"]] == [
        ("signature", ACCOUNT, 5, 3),
        ("age", ACCOUNT, 1, 0),
    ]
    assert "3 of 5 would be accepted now" in page
    assert (await server.xlen(shard.quarantine), await server.exists(shard.stream)) == (6, 0)


async def test_only_what_is_right_is_accepted(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """A sample, and then all that verify now, go to the stream as verified; forged ones stay."""
    await fill(server, shard)

    async with console.visit() as person:
        sample = await person.post(f"{PAGE}/accept", await fill_form(person, TWIN, "good", sample="2", expected="2"))
        wrong = await person.post(f"{PAGE}/accept", await fill_form(person, TWIN, "count"))
        rest = await person.post(f"{TWIN}/accept", json=await fill_form(person, TWIN, "good"))

    stored: Any = await server.xrange(shard.stream)
    entries = [Entry.from_fields(fields) for _, fields in stored]
    assert (sample.status, wrong.status, rest.json()) == (303, 409, {"count": 1})
    assert [(entry.verified, entry.account) for entry in entries] == [("jwt", ACCOUNT)] * 3
    assert await server.xlen(shard.quarantine) == 2
    audited = await console.read_audit("quarantine")
    assert [(entry["count"], entry["scope"], entry["result"]) for entry in audited] == [
        (2, f"reason=signature account={ACCOUNT} sample=2", "2 accepted, verified"),
        (1, f"reason=signature account={ACCOUNT}", "1 accepted, verified"),
    ]


async def test_only_an_admin_accepts_what_nothing_proves(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """One by one and with a reason; the entry is marked as not verified."""
    payload = body(message_uuid="x-1")
    ids = [await add_refused(server, shard, payload, headers=forge(payload)) for _ in range(2)]
    form = {"ids": ids[0], "expected": "1", "why": "the provider confirmed it"}

    async with console.visit() as operator, console.visit(Role.ADMIN) as admin:
        shown = [(await who.get(f"{PAGE}/payload?id={quote(ids[0])}")).text for who in (operator, admin)]
        refused = [await operator.post(f"{path}/accept-unverified", form) for path in (PAGE, TWIN)]
        by_accept = await operator.post(f"{PAGE}/accept", form)
        unreasoned = await admin.post(f"{PAGE}/accept-unverified", {**form, "why": ""})
        several = await admin.post(f"{TWIN}/accept-unverified", json={"ids": ids, "expected": 2, "why": "both"})
        bulk = await admin.post(f"{TWIN}/accept-unverified", json={"expected": 2, "why": "all"})
        untouched = await server.exists(shard.stream)
        by_admin = await admin.post(f"{PAGE}/accept-unverified", form)

    assert "Only an admin may accept a payload whose signature is wrong." in shown[0]
    assert "Accept 1 unverified" in shown[1]
    assert [answer.status for answer in (*refused, unreasoned, several, bulk)] == [403, 403, 400, 409, 409]
    assert (by_accept.status, untouched, by_admin.status) == (303, 0, 303)
    stored: Any = await server.xrange(shard.stream)
    [(_, fields)] = stored
    assert (fields[b"verified"], fields[b"signature"]) == (b"none", b"wrong")
    (audited,) = await console.read_audit("quarantine")
    assert (audited["action"], audited["why"]) == ("quarantine.accept-unverified", "the provider confirmed it")


async def test_discard_needs_the_typed_number(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """It drops the right and the wrong ones of the cause, and the page says how many were right."""
    await fill(server, shard)

    async with console.visit() as person:
        form = await fill_form(person, TWIN, "count")
        page = (await person.get(PAGE)).text
        wrong = await person.post(f"{PAGE}/discard", {**form, "expected": "3"})
        length = await server.xlen(shard.quarantine)
        await person.post(f"{PAGE}/discard", form)

    assert "3 of them would be accepted now." in page
    assert "Type 5 to confirm" in page
    assert (wrong.status, length, await server.xlen(shard.quarantine)) == (409, 5, 0)


async def test_private_parts_are_shown_only_by_a_reveal(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """The payload is in the answer to an operator's reveal only, and the token in none."""
    payload = body(message_uuid="m-1", to=NUMBER)
    payload_id = await add_refused(server, shard, payload)
    form = {"id": payload_id, "why": "ticket 7"}

    async with console.visit() as person, console.visit(Role.VIEWER) as viewer:
        query = f"/payload?id={quote(payload_id)}"
        hidden = [await viewer.get(f"{path}{end}") for path in (PAGE, TWIN) for end in ("", query)]
        refused = [await viewer.post(f"{path}/reveal", form) for path in (PAGE, TWIN)]
        revealed = [await person.post(f"{path}/reveal", form) for path in (PAGE, TWIN)]

    signed = bearer(payload)[0].rpartition(".")[2]
    assert [answer.status for answer in refused] == [403, 403]
    for answer in (*hidden, *refused):
        assert NUMBER not in answer.text
    assert RefusedPayloadReply.model_validate(revealed[1].json()).is_right
    for answer in revealed:
        assert NUMBER in answer.text
        assert signed not in answer.text
    assert len(await console.read_audit("quarantine.reveal")) == 2


async def test_a_refusal_of_redis_is_reported(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """If Redis refuses the append, the payload stays, and page, JSON and audit log have the reason."""
    await fill(server, shard)
    await server.set(shard.stream, "not a stream")

    async with console.visit() as person:
        form = await fill_form(person, TWIN, "good")
        answer = await person.post(f"{PAGE}/accept", form)
        page = (await person.get(answer.headers["Location"])).text
        twin = await person.post(f"{TWIN}/accept", json=form)

    assert "Not finished: Redis refused it (WRONGTYPE)." in page
    assert (twin.status, twin.json()["error"]) == (503, "Not finished: Redis refused it (WRONGTYPE).")
    assert await server.xlen(shard.quarantine) == 5
    results = [entry["result"] for entry in await console.read_audit("quarantine")]
    assert results == ["interrupted: Redis refused it (WRONGTYPE)"] * 2


async def test_without_secrets_nothing_is_checked(tmp_path: Path, valkey_url: str, server: Redis, shard: Shard) -> None:
    """The page says that no secret is set, and accepting does nothing."""
    await fill(server, shard)
    async with (
        run_console(tmp_path, valkey_url, shard.name, signatures="observe") as console,
        console.visit() as person,
    ):
        page = (await person.get(PAGE)).text
        answer = await person.post(f"{TWIN}/accept", json={"expected": 3, "why": "test"})

    assert "No signature can be checked: the console has no secret." in page
    assert (answer.status, "ACKSTREAM_SIGNATURE_SECRETS" in answer.json()["error"]) == (409, True)
    assert await server.xlen(shard.quarantine) == 5


async def test_a_changed_file_of_secrets_counts_at_once(
    tmp_path: Path, valkey_url: str, server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page reads the secrets again, so that a corrected file needs no restart."""
    await fill(server, shard)
    file = tmp_path / "secrets"
    file.write_text(f"{ACCOUNT}:{OTHER_SECRET.decode()}")
    monkeypatch.setenv("ACKSTREAM_SIGNATURE_SECRETS_FILE", str(file))

    async with run_console(tmp_path, valkey_url, shard.name) as console, console.visit() as person:
        before = (await person.get(TWIN)).json()["causes"][0]["good"]
        file.write_text(f"{ACCOUNT}:{SECRET.decode()}")
        after = (await person.get(TWIN)).json()["causes"][0]["good"]

    assert (before, after) == (2, 3)


async def test_markup_is_escaped(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """Reason, payload and content type come out as text."""
    payload_id = await add_refused(server, shard, MARKUP.encode(), reason=f"r{MARKUP}", headers=[MARKUP])

    async with console.visit() as person:
        pages = [await person.get(path) for path in (PAGE, f"{PAGE}/payload?id={quote(payload_id)}")]
        pages.append(await person.post(f"{PAGE}/reveal", {"id": payload_id, "why": MARKUP}))

    assert [page.status for page in pages] == [200] * 3
    for page in pages:
        assert "<script>alert" not in page.text
        assert "r&lt;script&gt;alert(1)" in page.text


async def test_an_empty_quarantine(console: ConsoleServer) -> None:
    """The page says that there is nothing."""
    async with console.visit(Role.VIEWER) as person:
        assert "The quarantine is empty." in (await person.get(PAGE)).text
