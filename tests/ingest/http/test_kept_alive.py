"""Requests on one connection, each after each other one."""

import re
from itertools import product
from typing import Any

from redis.asyncio import Redis

from stream.entry import Entry
from stream.keys import Shard
from stream.probe import make_probe
from tests.support.http.raw_http import LAST, good, post, talk
from tests.support.in_process import run_ingest
from tests.support.samples.events import body
from tests.support.samples.signed import ACCOUNT, SECRETS, bearer, sign_query

PAYLOAD, PROBE = body(), "0123456789abcdef" * 2
RECEIPT = sign_query(messageId="m-2", status="delivered", **{"api-key": ACCOUNT}).encode()
LENGTH = b"Content-Length: %d" % len(PAYLOAD)
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PAYLOAD), PAYLOAD)
JSON = b"Content-Type: application/json"
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z ]+\r\n(?:[A-Z][A-Za-z-]+: .+\r\n)+\r\n(?:live\n)?")


def sign(**options: Any) -> bytes:
    return b"Authorization: " + bearer(PAYLOAD, **options).encode()


def signed(content_type: str = "", **fields: Any) -> Entry:
    """The entry of a signed webhook."""
    return Entry(PAYLOAD, content_type, 0, "", "jwt", ACCOUNT, **fields)


def unsigned(reason: str, content_type: str = "", payload: bytes = PAYLOAD, probe: str | None = None) -> Entry:
    return Entry(payload, content_type, 0, "", signature=reason, probe=probe)


REQUESTS = [
    (good(PAYLOAD, JSON, sign(application_id="app-1")), 200, signed("application/json", application="app-1")),
    (good(PAYLOAD, b"content-TYPE: a/b", sign().replace(b"Auth", b"auth").replace(b"B", b"b", 1)), 200, signed("a/b")),
    (good(PAYLOAD, JSON, sign(secret="another")), 200, unsigned("wrong", "application/json")),
    (good(PAYLOAD, sign(), sign()), 200, unsigned("wrong")),
    (good(PAYLOAD), 200, unsigned("missing")),
    (good(make_probe(PROBE)), 200, unsigned("missing", payload=make_probe(PROBE), probe=PROBE)),
    (good(PAYLOAD, sign(), b"Content-Encoding: gzip"), 415, None),
    (good(b""), 200, None),
    (post(LENGTH, sign(), body=PAYLOAD, line=b"POST /Webhooks/%64LR/?a=b HTTP/1.1"), 200, signed(query=b"a=b")),
    (post(LENGTH, sign(), body=PAYLOAD, line=b"POST http://x/webhooks/dlr?b HTTP/1.1"), 200, signed(query=b"b")),
    (post(LENGTH, sign(), body=PAYLOAD, line=b"POST //webhooks/dlr HTTP/1.1"), 200, signed()),
    (post(LENGTH, sign(), body=PAYLOAD, line=b"PUT /webhooks/dlr HTTP/1.1"), 405, None),
    (post(b"Transfer-Encoding: chunked", sign(), body=CHUNKS), 200, signed()),
    (
        post(JSON, line=b"GET /webhooks/dlr?" + RECEIPT + b" HTTP/1.1"),
        200,
        Entry(RECEIPT, "application/x-www-form-urlencoded", 0, "", "sig", ACCOUNT),
    ),
    (post(line=b"HEAD /webhooks/dlr HTTP/1.1"), 200, None),
    (post(line=b"GET /live HTTP/1.1"), 200, None),
]


async def test_no_request_leaves_anything_to_the_next(valkey_url: str, server: Redis, shard: Shard) -> None:
    """After each other request, a request has its own answer, and its entry has its own fields only."""
    settings: dict[str, Any] = {"signatures": "observe", "signature_secrets": SECRETS, "dlr_signature": "sha256"}
    sent = [case for pair in product(REQUESTS, repeat=2) for case in pair]

    async with run_ingest(redis_url=valkey_url, stream=shard.name, ack_budget_ms=10_000, **settings) as ingest:
        heard = await talk(ingest.port, b"".join(request for request, _, _ in sent) + LAST)
        stored: Any = await server.xrange(shard.stream)

    assert not ANSWER.sub(b"", heard.raw)
    assert heard.answers == [*(status for _, status, _ in sent), 404]
    entries = [Entry.from_fields(fields)._replace(received_ms=0, receipt="") for _, fields in stored]
    assert entries == [entry for _, _, entry in sent if entry is not None]
