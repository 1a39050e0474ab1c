"""Quarantine: what is kept, how much of it, what is shown, and what can be taken in after all."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner, Result

from console.main import app
from ingest.auth.quarantine import BATCH_ENTRIES, WAITING_ENTRIES
from runtime.errors import Refusal
from runtime.metrics import QUARANTINED
from stream.entry import Entry
from stream.keys import Shard
from tests.events import body
from tests.serving import ingesting
from tests.signed import SECRETS, bearer
from tests.waiting import until

NUMBER = "447700900123"
PAYLOAD = body(to=NUMBER)


@dataclass(frozen=True, slots=True)
class Site:
    """Ingest that requires signatures, and the commands that look at its quarantine."""

    url: str
    server: Redis
    shard: Shard
    settings: dict[str, str]

    async def refused(self, *sent: tuple[bytes, str]) -> None:
        """Send webhooks that are refused; return when all of them are in quarantine."""
        before = await self.server.xlen(self.shard.quarantine)
        async with aiohttp.ClientSession() as http:
            for payload, authorization in sent:
                headers = {"Authorization": authorization}
                async with http.post(self.url, data=payload, headers=headers) as answer:
                    assert answer.status == 401

        async def are_kept() -> bool:
            return await self.server.xlen(self.shard.quarantine) == before + len(sent)

        await until(are_kept)

    async def run(self, *arguments: str, **settings: str) -> Result:
        """Run one command."""
        environment = {f"ACKSTREAM_{name.upper()}": value for name, value in {**self.settings, **settings}.items()}
        return await asyncio.to_thread(CliRunner().invoke, app, ["quarantine", *arguments], env=environment)

    async def json(self, *arguments: str, **settings: str) -> Any:
        """Run one command with --json, which has to succeed."""
        result = await self.run(*arguments, "--json", **settings)
        assert result.exit_code == 0, result.output
        return orjson.loads(result.output)

    async def entries(self) -> list[Entry]:
        found: Any = await self.server.xrange(self.shard.stream)
        return [Entry.from_fields(fields) for _, fields in found]


@pytest.fixture
async def site(valkey_url: str, server: Redis, shard: Shard) -> AsyncIterator[Site]:
    settings = {"redis_url": valkey_url, "stream": shard.name, "signature_secrets": SECRETS}
    limits: dict[str, Any] = {"quarantine_entries": 20, "quarantine_bytes": 20 * 4096}
    async with ingesting(**{**settings, **limits, "signatures": "required"}) as ingest:
        yield Site(ingest.url, server, shard, settings)


async def test_the_last_ones_are_kept_within_entries_and_bytes(site: Site) -> None:
    """Of more than fit the newest stay; of one that is too large only that it came."""
    for start in range(0, 60, 10):
        sent = [(b'{"n":%d}' % n, bearer(b"other")) for n in range(start, start + 10)]
        async with aiohttp.ClientSession() as http:
            for payload, authorization in sent:
                await http.post(site.url, data=payload, headers={"Authorization": authorization})

        async def is_kept(last: bytes = sent[-1][0]) -> bool:
            found: Any = await site.server.xrevrange(site.shard.quarantine, count=1)
            return bool(found) and found[0][1][b"payload"] == last

        await until(is_kept)
    listed = (await site.json("list"))["quarantine"]
    assert [line["bytes"] for line in listed] == [len(b'{"n":40}')] * 20
    assert (await site.json("show", listed[0]["id"], "--reveal"))["payload"] == '{"n":59}'
    async with aiohttp.ClientSession() as http:
        await http.post(site.url, data=b"x" * 50_000, headers={"Authorization": bearer(b"other")})

    async def is_told() -> bool:
        return bool((await site.json("list"))["quarantine"][0]["bytes"] == 50_000)

    await until(is_told)
    (newest, *_) = (await site.json("list"))["quarantine"]
    assert (newest["kept"], newest["reason"]) == (False, "payload")
    used: Any = await site.server.memory_usage(site.shard.quarantine)
    assert used < 2 * 20 * 4096


async def test_numbers_are_masked_and_tokens_never_shown(site: Site) -> None:
    """`list` tells nothing of the payload, `show` masks numbers unless --reveal, and neither shows the token."""
    token = bearer(PAYLOAD, secret="another")
    await site.refused((PAYLOAD, token))
    (line,) = (await site.json("list"))["quarantine"]
    assert (line["reason"], line["bytes"], line["kept"]) == ("signature", len(PAYLOAD), True)
    outputs = [(await site.run(*arguments)).output for arguments in (("list",), ("show", line["id"]))]
    assert not any(NUMBER in output for output in outputs)
    assert "********0123" in "".join(outputs[1].split())
    revealed = await site.json("show", line["id"], "--reveal")
    assert revealed["payload"].encode() == PAYLOAD
    assert not any(token[7:40] in output for output in (*outputs, str(revealed)))


async def test_after_a_secret_was_missing_what_is_right_is_taken_in(site: Site) -> None:
    """Checked by the secrets set now, on the clock of then: what is right is appended once, the rest stays."""
    right = bearer(PAYLOAD, secret="late", api_key="new-account", application_id="app-9")
    await site.refused((PAYLOAD, right), (b"forged", bearer(b"forged", secret="guess")))
    before = await site.json("accept", "--all")
    assert (len(before["accepted"]), len(before["left"])) == (0, 2)
    secrets = {"signature_secrets": f"{SECRETS},new-account:late"}
    taken = await site.json("accept", "--all", **secrets)
    assert (len(taken["accepted"]), len(taken["left"])) == (1, 1)
    (entry,) = await site.entries()
    assert (entry.payload, entry.verified) == (PAYLOAD, "jwt")
    assert (entry.account, entry.application) == ("new-account", "app-9")
    again = await site.json("accept", "--all", **secrets)
    assert (again["accepted"], again["left"]) == ([], taken["left"])
    assert len(await site.entries()) == 1


async def test_what_no_secret_proves_is_taken_in_only_if_that_is_said(site: Site) -> None:
    """With --unverified it is appended as not verified; without, the command exits with 1."""
    await site.refused((PAYLOAD, bearer(PAYLOAD, secret="guess")))
    (line,) = (await site.json("list"))["quarantine"]
    refused = await site.run("accept", line["id"])
    assert (refused.exit_code, await site.entries()) == (1, [])
    taken = await site.json("accept", line["id"], "--unverified")
    assert taken == {"accepted": [line["id"]], "left": []}
    (entry,) = await site.entries()
    assert (entry.verified, entry.account) == ("none", None)
    assert (await site.json("list"))["quarantine"] == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "0/1-1"), "nothing in quarantine has the id 0/1-1"),
        (("show", "x"), "is not an entry"),
        (("accept",), "name the ids to accept, or --all"),
        (("accept", "0/1-1", "--all"), "name the ids to accept, or --all"),
        (("accept", "0/1-1"), "nothing in quarantine has the id 0/1-1"),
    ],
)
async def test_a_wrong_question_is_told(site: Site, arguments: tuple[str, ...], sentence: str) -> None:
    """One sentence, and exit code 1."""
    result = await site.run(*arguments)
    assert isinstance(result.exception, Refusal)
    assert sentence in str(result.exception)
    assert result.exit_code == 1


async def test_a_flood_of_forged_webhooks_does_not_wait_for_redis(site: Site) -> None:
    """While Redis stands still every one is answered 401, and what does not fit into the queue is counted."""

    async def forge(http: aiohttp.ClientSession, n: int) -> int:
        async with http.post(site.url, data=b'{"n":%d}' % n, headers={"Authorization": forged}) as answer:
            return answer.status

    forged = bearer(b"other")
    before = forgotten()
    await site.server.execute_command("CLIENT PAUSE", 20_000, "WRITE")  # type: ignore[no-untyped-call]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as http:
        assert set(await asyncio.gather(*(forge(http, n) for n in range(1000)))) == {401}
    await site.server.client_unpause()
    assert forgotten() - before >= 1000 - WAITING_ENTRIES - BATCH_ENTRIES


def forgotten() -> float:
    return float(QUARANTINED.labels("forgotten")._value.get())  # noqa: SLF001 - it has no public way to be read
