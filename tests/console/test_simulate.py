"""`ackstream simulate` as a person runs it, against real processes and against whatever else may listen."""

import asyncio
import re
import signal
import tracemalloc
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from console.simulate import sender
from console.simulate.messages import latest_start, plan
from console.simulate.sender import send
from console.simulate.signing import ReceiptSigner, Signer
from ingest.auth.secrets import parse_secrets
from stream.entry import Entry
from stream.keys import Shard
from tests.support.processes import Ingest, ackstream, run_ackstream
from worker.events.vonage import parse

SECRETS = "abcd1234:0123456789abcdef0123456789abcdef,efgh5678:short"
KEYS = {
    "seed",
    "url",
    "signed",
    "webhooks",
    "sent",
    "repeated",
    "accepted",
    "refused",
    "unanswered",
    "unfinished",
    "answered",
    "seconds",
    "rate",
    "latency_ms",
}


async def run(folder: Path, *arguments: str, **settings: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, the report, and what stands on standard error."""
    done = await asyncio.to_thread(run_ackstream, "simulate", "--json", *arguments, folder=folder, **settings)
    report: dict[str, Any] = orjson.loads(done.stdout)
    assert set(report) == KEYS
    assert report["webhooks"] == sum(report[key] for key in ("accepted", "refused", "unanswered", "unfinished"))
    return done.returncode, report, done.stderr


@asynccontextmanager
async def answering(*statuses: int) -> AsyncIterator[str]:
    """Listen and give these answers in turn, the last one for ever."""
    left = deque(statuses)

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=left.popleft() if len(left) > 1 else left[0])

    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@pytest.mark.parametrize("method", ["md5hash", "md5", "sha1", "sha256", "sha512"])
async def test_with_a_secret_all_is_signed_and_taken_as_such(
    tmp_path: Path, valkey_url: str, shard: Shard, method: str
) -> None:
    """Ingest requires signatures: messages by token, some receipts by `sig`, of several accounts; none is refused."""
    signed = {"signature_secrets": SECRETS, "dlr_signature": method, "signature_header": "X-Vonage-Token"}
    ingest = Ingest(tmp_path, redis_url=valkey_url, stream=shard.name, **{"signatures": "required", **signed})
    async with ingest.running():
        code, report, _ = await run(tmp_path, "--messages", "300", "--url", ingest.url, **signed)
    assert code == 0
    assert report["signed"] is True
    assert report["answered"] == {"200": report["webhooks"]}


async def test_refused_for_want_of_a_signature_it_says_so(tmp_path: Path, valkey_url: str, shard: Shard) -> None:
    """All 503: exit code 1, and the setting that is missing."""
    ingest = Ingest(tmp_path, redis_url=valkey_url, stream=shard.name, signatures="required", signature_secrets=SECRETS)
    async with ingest.running():
        code, report, said = await run(tmp_path, "--messages", "3", "--repeats", "0", "--url", ingest.url)
    assert code == 1
    assert (report["accepted"], report["refused"]) == (0, report["webhooks"])
    assert "ACKSTREAM_SIGNATURE_SECRETS" in said


@pytest.mark.parametrize(
    ("status", "words"), [(401, "ingest rejects the signature"), (404, "ACKSTREAM_PATHS"), (500, "log")]
)
async def test_nothing_accepted_is_a_failure_with_a_next_step(tmp_path: Path, status: int, words: str) -> None:
    """Whatever listens there."""
    async with answering(status) as url:
        code, report, said = await run(tmp_path, "--messages", "2", "--repeats", "0", "--url", url)
    assert (code, report["accepted"]) == (1, 0)
    assert words in said


async def test_nobody_there_is_a_failure_with_a_next_step(tmp_path: Path) -> None:
    """Nothing listens: exit code 1, and how to start it. A URL without a host is refused before anything is sent."""
    code, report, said = await run(tmp_path, "--messages", "2", "--url", f"http://127.0.0.1:{unused_port()}/")
    assert (code, report["unanswered"], report["latency_ms"]) == (1, report["webhooks"], None)
    assert "nothing answers" in said
    assert "ackstream up" in said
    for url in ("http://", "http:///x", "localhost:3000"):
        done = run_ackstream("simulate", "--url", url, folder=tmp_path)
        assert done.returncode == 1
        assert "--url" in done.stderr
        assert "Traceback" not in done.stderr


async def test_what_is_refused_for_now_is_sent_again_as_the_provider_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """429 and 5xx after a delay that doubles, up to a limit; other refusals never."""
    monkeypatch.setattr(sender, "FIRST_REPEAT_SECONDS", 0.05)
    webhooks = list(plan(1, 3, start=datetime(2026, 1, 1, tzinfo=UTC)))[:1]
    for statuses, repeats, expected in (
        ((503, 429, 200), 2, {"200": 1, "429": 1, "503": 1}),
        ((503, 503, 200), 1, {"503": 2}),
        ((404, 200), 5, {"404": 1}),
    ):
        async with answering(*statuses) as url:
            report = await send(webhooks, url, rate=None, connections=3, repeats=repeats, progress=lambda _: None)
        assert report.answered == expected
        assert report.repeated == sum(expected.values()) - 1
        assert (report.accepted, report.refused) == ((1, 0) if "200" in expected else (0, 1))


async def test_interrupted_it_reports_what_was_sent_by_then(tmp_path: Path) -> None:
    """Ctrl-C: exit code 130, and the whole report."""
    seen = asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        seen.set()
        return web.Response()

    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        arguments = ("simulate", "--json", "--messages", "1000000", "--rate", "50", "--url", url)
        with ackstream(*arguments, folder=tmp_path) as process:
            await asyncio.wait_for(seen.wait(), 30)
            process.send(signal.SIGINT)
            assert await process.ended(10) == 130
            report = orjson.loads(process.said[process.said.index("{") :])
    assert report["accepted"] > 0
    assert report["sent"] < 1000


def test_no_timestamp_is_in_the_future() -> None:
    """Nor does a message report later than now, however many there are; the last ones are of today."""
    now = datetime(2026, 5, 4, 12, tzinfo=UTC)
    for messages in (1, 10, 2000):
        events = [
            parse(Entry(webhook.body, webhook.content_type, 0, "r"), "0/0-0")
            for webhook in plan(messages, 5, start=latest_start(messages, now), duplicates=0.2)
        ]
        times = [event.occurred_at for event in events if event.occurred_at is not None]
        assert len(times) == len(events)
        assert max(times) <= now
        assert (now - max(times)).total_seconds() < 300


def test_a_million_messages_take_no_more_memory_than_a_few() -> None:
    """The plan holds what overlaps, whatever is still to come."""
    tracemalloc.start()
    webhooks = plan(1_000_000, 1, start=datetime(2026, 1, 1, tzinfo=UTC), duplicates=0.1)
    sizes = []
    for _ in range(2):
        deque(islice(webhooks, 13_000), maxlen=0)
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[0] < 64 * 2**20
    assert sizes[1] - sizes[0] < 2 * 2**20


def test_receipts_are_what_the_parser_knows() -> None:
    """With a method some SMS report by receipts, whose statuses are those that the message must have."""
    secrets = parse_secrets(SECRETS)
    webhooks = list(
        plan(600, 7, start=datetime(2026, 1, 1, tzinfo=UTC), sign_receipt=ReceiptSigner(secrets, "sha256").sign)
    )
    receipts = [webhook for webhook in webhooks if webhook.content_type != "application/json"]
    assert len(receipts) > 5
    for webhook in receipts:
        event = parse(Entry(webhook.body, webhook.content_type, 0, "r"), "0/0-0")
        assert (event.message_uuid, event.status, event.channel) == (webhook.message_uuid, webhook.status, "sms")


def test_a_token_is_of_now_and_never_shows_a_secret() -> None:
    """Each call signs anew."""
    signer = Signer(parse_secrets(SECRETS), "Authorization")
    first, second = (signer.sign(b"{}", 1_700_000_000.0)["Authorization"] for _ in range(2))
    assert first != second
    assert re.fullmatch(r"Bearer [\w-]+\.[\w-]+\.[\w-]+", first)
    assert "short" not in first
