"""Each row of the table of answers and the appended entries, with a real process over raw sockets."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from stream.entry import Entry
from stream.keys import Shard
from tests.support.processes import Ingest
from tests.support.samples.events import body
from tests.support.samples.signed import ACCOUNT, SECRETS, bearer, sign_query
from tests.support.waiting import until

PAYLOAD = body()
RECEIPT = b"messageId=m-2&status=delivered&api-key=abcd1234"
SIGNED_RECEIPT = sign_query(messageId="m-2", status="delivered", **{"api-key": ACCOUNT}).encode()
LIMIT = 128 * 1024

RETRIED = {"retry-after": "5"}


def request(
    payload: bytes | None = PAYLOAD, *headers: str, method: str = "POST", path: str = "/webhooks/message-status"
) -> bytes:
    """One request that asks to be closed after its answer; with a length unless the headers say otherwise."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
    if payload is not None and not any(header.lower().startswith(("content-length", "transfer")) for header in headers):
        lines.append(f"Content-Length: {len(payload)}")
    return "\r\n".join([*lines, "", ""]).encode() + (payload or b"")


def sign_header(payload: bytes = PAYLOAD, **options: Any) -> str:
    """The header of a webhook that is signed."""
    return f"Authorization: {bearer(payload, **options)}"


@dataclass(frozen=True, slots=True)
class ReceivedAnswer:
    """Status, headers by their name in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class AnsweringIngest:
    """An ingest process, and the stream that it appends to."""

    port: int
    server: Redis
    shard: Shard

    async def ask(self, sent: bytes) -> ReceivedAnswer:
        """Send these bytes; the one answer, after which the connection is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        async with asyncio.timeout(60):
            answer = await reader.read()
        writer.close()
        head, _, rest = answer.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (header.partition(": ") for header in lines)}
        return ReceivedAnswer(int(line.split(" ")[1]), headers, rest)

    async def take_entries(self) -> list[Entry]:
        """Return the entries of the stream, and empty it."""
        entries: Any = await self.server.xrange(self.shard.stream)
        await self.server.delete(self.shard.stream)
        return [Entry.from_fields(fields) for _, fields in entries]

    async def take_quarantined(self) -> list[dict[bytes, bytes]]:
        """Return the entries of the quarantine, and empty it."""
        entries: Any = await self.server.xrange(self.shard.quarantine)
        await self.server.delete(self.shard.quarantine)
        return [fields for _, fields in entries]


async def site_of(
    server: Redis, url: str, shard: Shard, folder: Path, **settings: str
) -> AsyncIterator[AnsweringIngest]:
    common = {"redis_url": url, "stream": shard.name, "signature_secrets": SECRETS}
    async with Ingest(folder, **{**common, **settings}).run() as ingest:
        yield AnsweringIngest(ingest.port, server, shard)


@pytest.fixture
async def required(server: Redis, valkey_url: str, shard: Shard, tmp_path: Path) -> AsyncIterator[AnsweringIngest]:
    async for site in site_of(server, valkey_url, shard, tmp_path, signatures="required", dlr_signature="sha256"):
        yield site


async def test_what_is_authentic_is_appended_whatever_it_is(required: AnsweringIngest) -> None:
    """200 and an empty body; the entry has account and application. Invalid JSON is stored too, for the worker."""
    for payload in (PAYLOAD, b"no JSON", b"\xff\xfe", b"{" * 2000, b'{"a":1}'):
        for kind in ("application/json", "text/plain", "x"):
            header = sign_header(payload, application_id="app-1")
            answer = await required.ask(request(payload, header, f"Content-Type: {kind}"))
            assert (answer.status, answer.body) == (200, b"")
            (entry,) = await required.take_entries()
            assert (entry.payload, entry.content_type, entry.verified) == (payload, kind, "jwt")
            assert (entry.account, entry.application) == (ACCOUNT, "app-1")
    answer = await required.ask(request(None, method="GET", path=f"/webhooks/dlr?{SIGNED_RECEIPT.decode()}"))
    assert answer.status == 200
    answer = await required.ask(request(SIGNED_RECEIPT))
    assert answer.status == 200
    assert [(entry.verified, entry.account) for entry in await required.take_entries()] == [("sig", ACCOUNT)] * 2
    assert await required.take_quarantined() == []


async def test_what_is_unsigned_is_asked_for_again_and_dropped(required: AnsweringIngest) -> None:
    """503 with Retry-After: the provider sends it again, signed. Nothing is kept of it."""
    for payload in (PAYLOAD, RECEIPT, b"no JSON"):
        answer = await required.ask(request(payload))
        assert (answer.status, answer.body) == (503, b"")
        assert RETRIED.items() <= answer.headers.items()
    answer = await required.ask(request(None, method="GET", path=f"/webhooks/dlr?{RECEIPT.decode()}"))
    assert answer.status == 503
    assert await required.take_entries() == []
    assert await required.take_quarantined() == []


WRONG = {
    "another secret": ("signature", sign_header(secret="another")),
    "another payload": ("payload", sign_header(b"{}")),
    "no time": ("claims", sign_header(iat=None)),
    "too old": ("age", sign_header(iat=1_600_000_000)),
    "of the future": ("age", sign_header(iat=4_000_000_000)),
    "another issuer": ("claims", sign_header(iss="vonage")),
}
JUNK = {
    "another scheme": "Authorization: Basic YWJjZDEyMzQ6eA==",
    "an empty one": "Authorization: ",
    "no token": "Authorization: Bearer x.y",
    "an unknown account": sign_header(api_key="someone"),
    "another algorithm": sign_header(header={"alg": "HS512", "typ": "JWT"}),
    "no algorithm": sign_header(header={"alg": "none"}),
}


async def test_a_wrong_signature_is_sent_again_and_kept_in_quarantine(required: AnsweringIngest) -> None:
    """Every wrong signature is answered 503 with an empty body, and kept with the reason, not on the stream."""
    for reason, header in WRONG.values():
        answer = await required.ask(request(PAYLOAD, header))
        assert (answer.status, answer.body) == (503, b""), header
        assert set(answer.headers) <= {"content-length", "content-type", "date", "retry-after", "connection"}

        async def is_kept() -> bool:
            return await required.server.xlen(required.shard.quarantine) == 1

        await until(is_kept)
        (entry,) = await required.take_quarantined()
        assert (entry[b"reason"].decode(), entry[b"payload"], entry[b"verified"]) == (reason, PAYLOAD, b"none")
    assert await required.take_entries() == []


async def test_what_cannot_be_the_provider_s_is_sent_again_and_not_kept(required: AnsweringIngest) -> None:
    """503 with an empty body; after all of it the quarantine holds what came last, which may be the provider's."""
    for header in JUNK.values():
        answer = await required.ask(request(PAYLOAD, header))
        assert (answer.status, answer.body) == (503, b""), header
    await required.ask(request(b"last", sign_header(b"another")))

    async def is_kept() -> bool:
        return await required.server.xlen(required.shard.quarantine) == 1

    await until(is_kept)
    (entry,) = await required.take_quarantined()
    assert entry[b"payload"] == b"last"
    assert await required.take_entries() == []


async def test_a_wrong_receipt_is_refused_like_any_other(required: AnsweringIngest) -> None:
    """A ``sig`` that is wrong gives 503, by GET, form and JSON; two tokens do too."""
    wrong = SIGNED_RECEIPT.replace(b"m-2", b"m-3")
    assert (await required.ask(request(wrong))).status == 503
    assert (await required.ask(request(None, method="GET", path=f"/webhooks/dlr?{wrong.decode()}"))).status == 503
    assert (await required.ask(request(b'{"messageId":"m","status":"delivered","sig":"x"}'))).status == 503
    assert (await required.ask(request(PAYLOAD, sign_header(), sign_header()))).status == 503
    assert await required.take_entries() == []


async def test_the_owner_may_have_wrong_signatures_given_up(
    server: Redis, valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """ACKSTREAM_WRONG_SIGNATURE=401 answers a wrong one for good; an unsigned or uncheckable one is 503 as before."""
    settings = {"signatures": "required", "wrong_signature": "401", "dlr_signature": "sha256"}
    uncheckable = b'{"messageId":"m","price":null,"sig":"00"}'
    async for site in site_of(server, valkey_url, shard, tmp_path, **settings):
        for header in (sign_header(secret="another"), "Authorization: Bearer x.y"):
            assert (await site.ask(request(PAYLOAD, header))).status == 401
        for sent in (request(PAYLOAD), request(PAYLOAD, "Authorization: Basic eA=="), request(uncheckable)):
            assert (await site.ask(sent)).status == 503
        assert await site.take_entries() == []


async def test_while_observing_everything_is_taken_and_told_apart(
    server: Redis, valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """Signed, unsigned and forged webhooks get 200; only signed ones are appended as verified."""
    async for site in site_of(server, valkey_url, shard, tmp_path, signatures="observe"):
        for headers in ([sign_header()], [], [sign_header(secret="another")], ["Authorization: Basic eA=="]):
            assert (await site.ask(request(PAYLOAD, *headers))).status == 200
        entries = await site.take_entries()
        assert [(entry.verified, entry.account) for entry in entries] == [("jwt", ACCOUNT), *[("none", None)] * 3]
        assert [entry.signature for entry in entries[:3]] == [None, "missing", "wrong"]
        assert await site.take_quarantined() == []


async def test_receipts_may_be_taken_unsigned_and_nothing_else(
    server: Redis, valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """ACKSTREAM_DLR_SIGNATURE=off accepts only payloads that the worker treats as receipts, and no messages."""
    settings = {"signatures": "required", "dlr_signature": "off"}
    async for site in site_of(server, valkey_url, shard, tmp_path, **settings):
        assert (await site.ask(request(RECEIPT))).status == 200
        assert (await site.ask(request(b'{"messageId":"m-2","status":"delivered"}'))).status == 200
        assert [(entry.verified, entry.signature) for entry in await site.take_entries()] == [("none", "missing")] * 2
        for payload in (
            PAYLOAD,
            b'{"messageId":"m-2","message_uuid":"m-1","status":"read"}',
            b"message_uuid=m&status=x",
        ):
            assert (await site.ask(request(payload))).status == 503
        assert await site.take_entries() == []


async def test_without_a_method_a_signed_receipt_is_unsigned_like_any_other(
    server: Redis, valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """Nobody has said how to check it: the provider is asked to come again, for a 401 would lose it."""
    async for site in site_of(server, valkey_url, shard, tmp_path, signatures="required"):
        assert (await site.ask(request(SIGNED_RECEIPT))).status == 503
        assert await site.take_entries() == []


async def test_what_is_no_webhook_has_an_answer_of_its_own(required: AnsweringIngest) -> None:
    """Too large 413, compressed 415, another method 405 with Allow, another path 404: nothing is appended."""
    long = b"x" * (LIMIT + 1)
    chunked = b"".join(b"8000\r\n" + b"x" * 0x8000 + b"\r\n" for _ in range(5)) + b"0\r\n\r\n"
    for sent, status in (
        (request(long, sign_header(long)), 413),
        (request(b"", f"Content-Length: {2**40}"), 413),
        (request(chunked, "Transfer-Encoding: chunked", sign_header()), 413),
        (request(PAYLOAD, sign_header(), "Content-Encoding: gzip"), 415),
        (request(PAYLOAD, sign_header(), "Content-Encoding: br"), 415),
        (request(b"{}", sign_header(b""), method="GET"), 400),
        (request(PAYLOAD, sign_header(), method="PUT"), 405),
        (request(None, sign_header(), method="HEAD", path="/webhooks/dlr?a=1"), 405),
        (request(PAYLOAD, sign_header(), path="/other"), 404),
    ):
        answer = await required.ask(sent)
        assert answer.status == status, sent[:60]
        assert status != 405 or set(answer.headers["allow"].split(",")) == {"GET", "POST"}
    assert (await required.ask(request(b"x" * LIMIT, sign_header(b"x" * LIMIT)))).status == 200
    assert [len(entry.payload) for entry in await required.take_entries()] == [LIMIT]
