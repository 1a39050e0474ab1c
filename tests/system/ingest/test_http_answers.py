"""The answers of the endpoint that are not about a signature, on a real process over raw sockets."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stream.keys import Shard
from tests.support.http.raw_http import Edge, good, post, run_for_module, talk
from tests.support.processes import becomes
from tests.support.samples.signed import ACCOUNT, SECRETS, bearer

pytestmark = pytest.mark.one_process("http_answers")  # its tests share a process of ingest

CLOSE = b"Connection: close"
NO_BODY = b"Content-Length: 0"
PAYLOAD = b'{"message_uuid":"m-1","status":"delivered"}'


@pytest.fixture(scope="module")
def edge(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    settings = {"body_seconds": "0.5", "max_body": "1024"}
    yield from run_for_module(
        Edge(tmp_path_factory.mktemp("answers"), valkey_url, Shard("test-http-answers"), **settings)
    )


@pytest.fixture(scope="module")
def signed_edge(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    settings = {"signatures": "required", "signature_secrets": SECRETS, "dlr_signature": "off"}
    yield from run_for_module(
        Edge(tmp_path_factory.mktemp("signed"), valkey_url, Shard("test-http-signed"), **settings)
    )


@pytest.mark.parametrize(
    "request_",
    [
        post(CLOSE, line=b"GET /webhooks/dlr HTTP/1.1"),
        post(CLOSE, line=b"GET /webhooks/dlr? HTTP/1.1"),
        post(CLOSE, line=b"HEAD /webhooks/dlr HTTP/1.1"),
        post(CLOSE, NO_BODY),
        post(CLOSE),
        post(CLOSE, b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        post(CLOSE, NO_BODY, line=b"POST /webhooks/dlr?tenant=1 HTTP/1.1"),
        post(CLOSE, NO_BODY, b"Authorization: Basic eDp5"),
    ],
)
async def test_an_empty_request_is_answered_200_and_not_stored(edge: Edge, request_: bytes) -> None:
    """Vonage checks a URL that way before it saves it; the request is counted as a check."""
    before = (await edge.metrics()).get(("ackstream_webhooks_total", "check"), 0)

    answer = await talk(edge.port, request_)

    assert answer.answers == [200]
    assert (await edge.metrics())["ackstream_webhooks_total", "check"] == before + 1
    assert await edge.take_appended() == []
    assert edge.process.read_log("webhook.check")


async def test_a_check_needs_no_signature(signed_edge: Edge) -> None:
    """With signatures required an empty request without a token is answered 200 too."""
    for request_ in (post(CLOSE, NO_BODY), post(CLOSE, line=b"GET /webhooks/dlr HTTP/1.1")):
        assert (await talk(signed_edge.port, request_)).answers == [200]

    assert await signed_edge.take_appended() == []


@pytest.mark.parametrize("mode", ["required", "observe"])
async def test_an_empty_post_with_the_token_of_a_payload_is_asked_for_again(
    mode: str, signed_edge: Edge, valkey_url: str, shard: Shard, tmp_path: Path
) -> None:
    """Something on the way has lost the body: with 503 the provider sends it again, with 200 it would be gone."""
    lost = post(CLOSE, NO_BODY, b"Authorization: " + bearer(PAYLOAD).encode())
    empty = post(CLOSE, NO_BODY, b"Authorization: " + bearer(b"").encode())
    observing = Edge(tmp_path, valkey_url, shard, signatures="observe", signature_secrets=SECRETS)

    async with observing.run():
        edge = signed_edge if mode == "required" else observing
        answers = [(await talk(edge.port, request)).answers for request in (lost, empty)]
        assert await edge.take_appended() == []

    assert answers == [[503], [200]]


@pytest.mark.parametrize(
    "path",
    [b"/webhooks/dlr/", b"/Webhooks/DLR", b"/WEBHOOKS/dlr/?a=1", b"/webhooks/%64lr", b"//webhooks//dlr//"],
)
async def test_other_spellings_of_a_path_are_taken(edge: Edge, path: bytes) -> None:
    """More slashes, another letter case and escapes lead to the same path, and the payload is stored."""
    line = b"POST " + path + b" HTTP/1.1"

    answer = await talk(edge.port, post(CLOSE, b"Content-Length: 5", body=b"hello", line=line))

    assert answer.answers == [200]
    assert await edge.take_appended(1) == [b"hello"]


@pytest.mark.parametrize(("path", "text"), [("live", "live\n"), ("ready", "ready\n"), ("Ready/", "ready\n")])
async def test_the_port_of_the_webhooks_reports_health_too(edge: Edge, path: str, text: str) -> None:
    """For platforms that offer one port only. HEAD has the same answer without its text."""
    url = f"http://127.0.0.1:{edge.port}/{path}"
    async with aiohttp.ClientSession() as http:
        async with http.get(url) as answer:
            assert (answer.status, await answer.text()) == (200, text)
        async with http.head(url) as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        async with http.post(url, data=b"x") as answer:
            assert answer.status == 405


REFUSALS = {
    "malformed": (400, b"secret-word\0\r\n\r\n"),
    "path": (404, post(CLOSE, line=b"GET /secret-word HTTP/1.1")),
    "method": (405, post(CLOSE, NO_BODY, line=b"PUT /webhooks/dlr?secret-word HTTP/1.1")),
    "payload": (400, post(CLOSE, b"Content-Length: 11", body=b"secret-word", line=b"GET /webhooks/dlr HTTP/1.1")),
    "size": (413, good(b"secret-word" * 1000, CLOSE)),
    "encoding": (415, good(b"secret-word", CLOSE, b"Content-Encoding: gzip")),
    "repeated-header": (503, good(b"secret-word", b"Content-Type: a", b"content-type: secret-word")),
    "slow-body": (503, post(CLOSE, b"Content-Length: 99", body=b"secret-word")),
}


@pytest.mark.parametrize("reason", REFUSALS)
async def test_a_refusal_is_logged_with_its_reason_and_the_next_step(edge: Edge, reason: str) -> None:
    """One line for each kind; nothing that the client sent is in it."""
    status, request_ = REFUSALS[reason]

    answer = await talk(edge.port, request_)

    def lines() -> list[dict[str, Any]]:
        return [line for line in edge.process.read_log("webhook.refused") if line["reason"] == reason]

    assert answer.answers == [status]
    await becomes(lines)  # another thread writes them
    (line,) = lines()
    assert line["answer"] == status
    assert line["what"]
    assert "secret-word" not in edge.process.said


ONCE = ["Content-Type", "User-Agent", "Server", "Etag", "Content-Location", "Content-Range", "Max-Forwards"]


@pytest.mark.parametrize("header", ONCE)
async def test_a_header_that_comes_twice_loses_no_webhook(edge: Edge, header: str) -> None:
    """503 and a closed connection: the provider sends it again, and the log names the header that the proxy repeats."""
    lines = [f"{header}: a".encode(), f"{header.lower()}: b".encode()]

    answer = await talk(edge.port, good(b"hello", *lines) + good(b"smuggled"))

    assert answer.answers == [503]
    assert b"Retry-After: 5\r\n" in answer.raw
    assert await edge.takes_a_good_one()


async def test_a_thousand_refusals_write_few_lines(edge: Edge) -> None:
    """Nobody can fill a disk with them; the next line says how many were left out."""
    before = len(edge.process.said.splitlines())

    await talk(edge.port, post(line=b"GET /nowhere HTTP/1.1") * 1000 + post(CLOSE, line=b"GET /nowhere HTTP/1.1"))

    assert len(edge.process.said.splitlines()) - before <= 2


async def test_unsigned_and_wrong_webhooks_are_logged_apart(signed_edge: Edge) -> None:
    """If every webhook is refused, the log has the reason, the next step and the configured account."""
    wrong = bearer(PAYLOAD, secret="another-secret-of-nobody-at-all").encode()
    stranger = bearer(PAYLOAD, api_key="stranger").encode()

    await talk(signed_edge.port, good(PAYLOAD, CLOSE))
    await talk(signed_edge.port, good(PAYLOAD, CLOSE, b"Authorization: " + wrong))
    await talk(signed_edge.port, good(PAYLOAD, CLOSE, b"Authorization: " + stranger))

    def are_logged() -> bool:
        return {"unsigned", "signature", "account"} <= {
            line["reason"] for line in signed_edge.process.read_log("webhook.refused")
        }

    await becomes(are_logged)  # another thread writes them
    reasons = {line["reason"]: line for line in signed_edge.process.read_log("webhook.refused")}
    assert reasons["unsigned"]["answer"] == 503
    assert "ACKSTREAM_SIGNATURE_SECRETS" in reasons["signature"]["what"]
    assert reasons["signature"]["account"] == ACCOUNT
    assert "account" not in reasons["account"]
    assert "stranger" not in signed_edge.process.said


@pytest.mark.parametrize("reason", [*REFUSALS, "none"])
async def test_no_answer_names_versions_or_quotes_the_client(edge: Edge, reason: str) -> None:
    """No answer has a Server header, a body, or any part of the request."""
    request_ = good(b"secret-word", CLOSE) if reason == "none" else REFUSALS[reason][1]

    answer = await talk(edge.port, request_)

    await edge.take_appended(reason == "none")
    assert answer.raw.endswith(b"\r\n\r\n")
    for word in (b"server:", b"aiohttp", b"python", b"secret-word"):
        assert word not in answer.raw.lower()


async def test_several_addresses_can_be_listened_on(valkey_url: str, shard: Shard, tmp_path: Path) -> None:
    """IPv4 and IPv6, by one setting."""
    async with Edge(tmp_path, valkey_url, shard, host="127.0.0.1, ::1").run() as edge:
        for host in ("127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection(host, edge.port)
            writer.write(good(b"hello", CLOSE))
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()


async def test_a_receipt_that_is_not_utf_8_is_stored_as_it_came(signed_edge: Edge) -> None:
    """Latin-1 in a form, escaped or not, and in a query: 200, and the raw bytes are on the stream."""
    form = b"messageId=m-1&status=delivered&client-ref=caf\xe9"
    query = b"messageId=m-1&status=delivered&client-ref=caf%E9"
    line = b"GET /webhooks/dlr?" + query + b" HTTP/1.1"

    answers = [
        (await talk(signed_edge.port, request)).answers for request in (good(form, CLOSE), post(CLOSE, line=line))
    ]

    assert answers == [[200], [200]]
    assert await signed_edge.take_appended(2) == [form, query]
