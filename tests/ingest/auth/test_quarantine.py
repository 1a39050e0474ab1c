"""Quarantine: its content, its limits, its output, and the payloads that can be accepted later."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner, Result

from console.main import make_app
from ingest.auth.quarantine import BATCH_ENTRIES, WAITING_ENTRIES
from runtime.errors import CommandError
from stream.entry import Entry
from stream.keys import Shard
from tests.support.faults.redis_outages import read_metric
from tests.support.in_process import run_ingest
from tests.support.samples.events import body
from tests.support.samples.signed import ACCOUNT, SECRETS, bearer
from tests.support.waiting import until

NUMBER = "447700900123"
PAYLOAD = body(to=NUMBER)


@dataclass(frozen=True, slots=True)
class QuarantiningIngest:
    """Ingest that requires signatures, and the commands that look at its quarantine."""

    url: str
    server: Redis
    shard: Shard
    settings: dict[str, str]

    async def refuse(self, *sent: tuple[bytes, str]) -> None:
        """Send webhooks that are refused; return when all of them are in quarantine."""
        before = await self.server.xlen(self.shard.quarantine)
        async with aiohttp.ClientSession() as http:
            for payload, authorization in sent:
                headers = {"Authorization": authorization}
                async with http.post(self.url, data=payload, headers=headers) as answer:
                    assert answer.status == 503

        async def are_kept() -> bool:
            return await self.server.xlen(self.shard.quarantine) == before + len(sent)

        await until(are_kept)

    async def run(self, *arguments: str, **settings: str) -> Result:
        """Run one command."""
        environment = {f"ACKSTREAM_{name.upper()}": value for name, value in {**self.settings, **settings}.items()}
        return await asyncio.to_thread(
            CliRunner().invoke, make_app(["quarantine"]), ["quarantine", *arguments], env=environment
        )

    async def json(self, *arguments: str, **settings: str) -> Any:
        """Run one command with --json, which has to succeed."""
        result = await self.run(*arguments, "--json", **settings)
        assert result.exit_code == 0, result.output
        return orjson.loads(result.output)

    async def entries(self) -> list[Entry]:
        entries: Any = await self.server.xrange(self.shard.stream)
        return [Entry.from_fields(fields) for _, fields in entries]


@pytest.fixture
async def site(valkey_url: str, server: Redis, shard: Shard) -> AsyncIterator[QuarantiningIngest]:
    settings = {"redis_url": valkey_url, "stream": shard.name, "signature_secrets": SECRETS}
    limits: dict[str, Any] = {"quarantine_entries": 20, "quarantine_bytes": 20 * 4096}
    async with run_ingest(**{**settings, **limits, "signatures": "required"}) as ingest:
        yield QuarantiningIngest(ingest.url, server, shard, settings)


async def test_a_full_budget_keeps_the_old_and_refuses_the_new(site: QuarantiningIngest) -> None:
    """Each of the two budgets holds half of the entries; payloads with a valid signature have their own budget."""
    first = [(b'{"n":%d}' % n, bearer(b'{"n":%d}' % n, secret="guess")) for n in range(10)]
    await site.refuse(*first)
    full = read_metric("quarantined_total", result="full")
    async with aiohttp.ClientSession() as http:
        for n in range(20):
            payload = b'{"m":%d}' % n
            await http.post(site.url, data=payload, headers={"Authorization": bearer(payload, secret="guess")})

    async def are_refused() -> bool:
        return read_metric("quarantined_total", result="full") == full + 20

    await until(are_refused)
    await site.refuse((b"a changed one", bearer(b"another")))
    listed = (await site.json("list"))["quarantine"]
    assert [line["reason"] for line in listed] == ["payload"] + ["signature"] * 10
    shown = [(await site.json("show", line["id"]))["payload"] for line in listed[1:]]
    assert sorted(shown) == sorted(payload.decode() for payload, _ in first)


async def test_of_a_payload_that_is_too_large_only_that_it_came_is_kept(site: QuarantiningIngest) -> None:
    """A payload larger than its share of ACKSTREAM_QUARANTINE_BYTES is not kept; `list` has its size."""
    await site.refuse((b"x" * 50_000, bearer(b"other")))
    (line,) = (await site.json("list"))["quarantine"]
    assert (line["bytes"], line["kept"], line["reason"]) == (50_000, False, "payload")


async def test_a_webhook_that_is_sent_again_is_kept_once(site: QuarantiningIngest) -> None:
    """The provider repeats it about 103 times, with a new token or the same; after a discard it would be kept again."""
    repeated = read_metric("quarantined_total", result="repeated")
    await site.refuse((PAYLOAD, bearer(PAYLOAD, secret="old", jti="0")))
    async with aiohttp.ClientSession() as http:
        for n in range(103):
            headers = {"Authorization": bearer(PAYLOAD, secret="old", jti=str(n))}
            async with http.post(site.url, data=PAYLOAD, headers=headers) as answer:
                assert answer.status == 503

    async def are_known() -> bool:
        return read_metric("quarantined_total", result="repeated") == repeated + 103

    await until(are_known)
    assert await site.server.xlen(site.shard.quarantine) == 1
    assert len((await site.json("discard", "--all"))["discarded"]) == 1
    await site.refuse((PAYLOAD, bearer(PAYLOAD, secret="old")))


JUNK = [
    "Bearer x",
    "Bearer a.b.c",
    "bearer ...",
    "Bearer " + "x" * 7000,
    "Basic eA==",
    bearer(b"", header={"alg": "none"}),
]


async def test_neither_junk_nor_forgeries_remove_a_genuine_webhook(site: QuarantiningIngest) -> None:
    """Junk, unknown accounts and well-formed tokens that name the configured account: the genuine one stays."""
    genuine = bearer(PAYLOAD, secret="the new one")
    await site.refuse((PAYLOAD, genuine))

    async def forge(http: aiohttp.ClientSession, n: int) -> int:
        payload = b'{"n":%d}' % n
        tokens = [*JUNK, bearer(payload, secret="guess"), bearer(payload, secret="guess", api_key="nobody")]
        async with http.post(site.url, data=payload, headers={"Authorization": tokens[n % len(tokens)]}) as answer:
            return answer.status

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as http:
        assert set(await asyncio.gather(*(forge(http, n) for n in range(2000)))) == {503}
    listed = (await site.json("list", "--limit", "1000"))["quarantine"]
    assert len(listed) <= 10
    assert {line["reason"] for line in listed} == {"signature"}
    result = await site.json("accept", "--all", signature_secrets=f"{ACCOUNT}:the new one")
    assert [entry.payload for entry in await site.entries()] == [PAYLOAD]
    assert len(result["accepted"]) == 1


async def test_an_entry_that_somebody_else_wrote_breaks_no_command(site: QuarantiningIngest) -> None:
    """Fields that are missing or no numbers: it is listed and left, the others are accepted."""
    foreign: list[Any] = [{"a": "b"}, {"size": "x"}, {"v": "1", "received_ms": "\xff", "authorization": "Bearer x"}]
    for fields in foreign:
        await site.server.xadd(site.shard.quarantine, fields)
    await site.refuse((PAYLOAD, bearer(PAYLOAD, secret="late")))
    assert len((await site.json("list"))["quarantine"]) == 4
    for line in (await site.json("list"))["quarantine"]:
        await site.json("show", line["id"])
    result = await site.json("accept", "--all", signature_secrets=f"{ACCOUNT}:late")
    assert (len(result["accepted"]), len(result["left"])) == (1, 3)
    assert len((await site.json("discard", "--all"))["discarded"]) == 3


async def test_what_cannot_be_appended_stays_in_quarantine(site: QuarantiningIngest) -> None:
    """A payload leaves the quarantine only after its append, so a stream that was replaced swallows none."""
    await site.refuse((PAYLOAD, bearer(PAYLOAD, secret="late")))
    await site.server.set(site.shard.stream, "no stream")
    refused = await site.run("accept", "--all", signature_secrets=f"{ACCOUNT}:late")
    assert refused.exit_code != 0
    await site.server.delete(site.shard.stream)
    assert len((await site.json("accept", "--all", signature_secrets=f"{ACCOUNT}:late"))["accepted"]) == 1


async def test_when_nothing_is_accepted_the_command_fails(site: QuarantiningIngest) -> None:
    """Exit code 1 and a sentence with the next step, for an empty quarantine too."""
    empty = await site.run("accept", "--all")
    assert (empty.exit_code, "the quarantine is empty" in str(empty.exception)) == (1, True)
    await site.refuse((PAYLOAD, bearer(PAYLOAD, secret="guess")))
    wrong = await site.run("accept", "--all")
    assert (wrong.exit_code, "ACKSTREAM_SIGNATURE_SECRETS" in str(wrong.exception)) == (1, True)
    off = await site.run("accept", "--all", signatures="off")
    assert (off.exit_code, "signatures are off" in str(off.exception)) == (1, True)


async def test_numbers_are_masked_and_tokens_never_shown(site: QuarantiningIngest) -> None:
    """`list` shows nothing of the payload, `show` masks numbers unless --reveal, and neither shows the token."""
    token = bearer(PAYLOAD, secret="another")
    await site.refuse((PAYLOAD, token))
    (line,) = (await site.json("list"))["quarantine"]
    assert (line["reason"], line["bytes"], line["kept"]) == ("signature", len(PAYLOAD), True)
    outputs = [(await site.run(*arguments)).output for arguments in (("list",), ("show", line["id"]))]
    assert not any(NUMBER in output for output in outputs)
    assert "********0123" in "".join(outputs[1].split())
    revealed = await site.json("show", line["id"], "--reveal")
    assert revealed["payload"].encode() == PAYLOAD
    assert not any(token[7:40] in output for output in (*outputs, str(revealed)))


async def test_after_a_secret_was_missing_what_is_right_is_taken_in(site: QuarantiningIngest) -> None:
    """Payloads are verified with the current secrets at their receive time: valid ones are appended, others stay."""
    right = bearer(PAYLOAD, secret="late", application_id="app-9")
    await site.refuse((PAYLOAD, right), (b"forged", bearer(b"forged", secret="guess")))
    assert (await site.run("accept", "--all")).exit_code == 1
    secrets = {"signature_secrets": f"{SECRETS},{ACCOUNT}:late"}
    result = await site.json("accept", "--all", **secrets)
    assert (len(result["accepted"]), len(result["left"])) == (1, 1)
    (entry,) = await site.entries()
    assert (entry.payload, entry.verified) == (PAYLOAD, "jwt")
    assert (entry.account, entry.application) == (ACCOUNT, "app-9")
    assert (await site.run("accept", "--all", **secrets)).exit_code == 1
    assert len(await site.entries()) == 1


async def test_what_no_secret_proves_is_taken_in_only_if_that_is_said(site: QuarantiningIngest) -> None:
    """`accept --unverified` appends the payload as not verified; without the option the command exits with 1."""
    await site.refuse((PAYLOAD, bearer(PAYLOAD, secret="guess")))
    (line,) = (await site.json("list"))["quarantine"]
    refused = await site.run("accept", line["id"])
    assert (refused.exit_code, await site.entries()) == (1, [])
    result = await site.json("accept", line["id"], "--unverified")
    assert result == {"accepted": [line["id"]], "left": []}
    (entry,) = await site.entries()
    assert (entry.verified, entry.account) == ("none", None)
    assert (await site.json("list"))["quarantine"] == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "0/1-1"), "no refused payload 0/1-1"),
        (("show", "x"), "is not an entry"),
        (("accept",), "name the ids to accept, or --all"),
        (("accept", "0/1-1", "--all"), "name the ids to accept, or --all"),
        (("accept", "0/1-1"), "no refused payload 0/1-1"),
    ],
)
async def test_a_wrong_question_is_told(site: QuarantiningIngest, arguments: tuple[str, ...], sentence: str) -> None:
    """One sentence, and exit code 1."""
    result = await site.run(*arguments)
    assert isinstance(result.exception, CommandError)
    assert sentence in str(result.exception)
    assert result.exit_code == 1


async def test_a_flood_of_forged_webhooks_does_not_wait_for_redis(site: QuarantiningIngest) -> None:
    """While Redis hangs every webhook is answered 503, and payloads that do not fit into the queue are counted."""

    async def forge(http: aiohttp.ClientSession, n: int) -> int:
        async with http.post(site.url, data=b'{"n":%d}' % n, headers={"Authorization": forged}) as answer:
            return answer.status

    forged = bearer(b"other")
    before = read_metric("quarantined_total", result="forgotten")
    await site.server.execute_command("CLIENT PAUSE", 20_000, "WRITE")  # type: ignore[no-untyped-call]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as http:
        assert set(await asyncio.gather(*(forge(http, n) for n in range(1000)))) == {503}
    await site.server.client_unpause()
    assert read_metric("quarantined_total", result="forgotten") - before >= 1000 - WAITING_ENTRIES - BATCH_ENTRIES
