"""`ackstream simulate` against real processes and other HTTP servers."""

import asyncio
import re
import signal
import tracemalloc
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from console.simulate import sender
from console.simulate.plan import latest_start, plan
from console.simulate.sender import send
from console.simulate.signing import ReceiptSigner, Signer
from ingest.auth.secrets import parse_secrets
from stream.entry import Entry
from stream.keys import Shard
from tests.support.commands import run_command
from tests.support.processes import Ingest, ackstream, becomes, run_ackstream
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
    """Run simulate; return the exit code, the report, and the text of standard error."""
    process = await asyncio.to_thread(run_ackstream, "simulate", "--json", *arguments, folder=folder, **settings)
    report: dict[str, Any] = orjson.loads(process.stdout)
    assert set(report) == KEYS
    assert report["webhooks"] == sum(report[key] for key in ("accepted", "refused", "unanswered", "unfinished"))
    return process.returncode, report, process.stderr


@asynccontextmanager
async def open_server(*statuses: int) -> AsyncIterator[str]:
    """Run a server that responds with these statuses in turn, and then always with the last one."""
    queue = deque(statuses)

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=queue.popleft() if len(queue) > 1 else queue[0])

    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@pytest.mark.parametrize("method", ["md5hash", "md5", "sha1", "sha256", "sha512"])
async def test_with_secrets_all_webhooks_are_signed_and_accepted(
    tmp_path: Path, valkey_url: str, shard: Shard, method: str
) -> None:
    """Ingest with required signatures accepts all tokens and all `sig` parameters of several accounts."""
    signed = {"signature_secrets": SECRETS, "dlr_signature": method, "signature_header": "X-Vonage-Token"}
    ingest = Ingest(tmp_path, redis_url=valkey_url, stream=shard.name, **{"signatures": "required", **signed})
    async with ingest.run():
        code, report, _ = await run(tmp_path, "--messages", "300", "--url", ingest.url, **signed)
    assert code == 0
    assert report["signed"] is True
    assert report["answered"] == {"200": report["webhooks"]}


async def test_a_missing_secret_is_named_if_all_webhooks_are_refused(
    tmp_path: Path, valkey_url: str, shard: Shard
) -> None:
    """If ingest answers 503 to all webhooks, simulate exits with 1 and names the missing setting."""
    ingest = Ingest(tmp_path, redis_url=valkey_url, stream=shard.name, signatures="required", signature_secrets=SECRETS)
    async with ingest.run():
        code, report, errors = await run(tmp_path, "--messages", "3", "--repeats", "0", "--url", ingest.url)
    assert code == 1
    assert (report["accepted"], report["refused"]) == (0, report["webhooks"])
    assert "ACKSTREAM_SIGNATURE_SECRETS" in errors


@pytest.mark.parametrize(
    ("status", "words"), [(401, "ingest rejects the signature"), (404, "ACKSTREAM_PATHS"), (500, "log")]
)
async def test_nothing_accepted_is_a_failure_with_a_next_step(tmp_path: Path, status: int, words: str) -> None:
    """Simulate exits with 1 and names a next step for each status."""
    async with open_server(status) as url:
        code, report, errors = await run(tmp_path, "--messages", "2", "--repeats", "0", "--url", url)
    assert (code, report["accepted"]) == (1, 0)
    assert words in errors


async def test_no_server_is_a_failure_with_a_next_step(tmp_path: Path) -> None:
    """Without a server, simulate exits with 1 and names the command to start; it rejects a URL without a host."""
    code, report, errors = await run(tmp_path, "--messages", "2", "--url", f"http://127.0.0.1:{unused_port()}/")
    assert (code, report["unanswered"], report["latency_ms"]) == (1, report["webhooks"], None)
    assert "nothing answers" in errors
    assert "ackstream up" in errors
    for url in ("http://", "http:///x", "localhost:3000", "http://[::1/"):
        process = run_ackstream("simulate", "--url", url, folder=tmp_path)
        assert process.returncode == 1
        assert "--url" in process.stderr
        assert "Traceback" not in process.stderr


async def test_429_and_5xx_are_repeated_as_by_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate repeats after 429 and 5xx with doubling delays, up to a limit, and never after another status."""
    monkeypatch.setattr(sender, "FIRST_REPEAT_SECONDS", 0.05)
    webhooks = list(plan(1, 3, start=datetime(2026, 1, 1, tzinfo=UTC)))[:1]
    for statuses, repeats, expected in (
        ((503, 429, 200), 2, {"200": 1, "429": 1, "503": 1}),
        ((503, 503, 200), 1, {"503": 2}),
        ((404, 200), 5, {"404": 1}),
    ):
        async with open_server(*statuses) as url:
            report = await send(webhooks, url, rate=None, connections=3, repeats=repeats, progress=lambda _: None)
        assert report.answered == expected
        assert report.repeated == sum(expected.values()) - 1
        assert (report.accepted, report.refused) == ((1, 0) if "200" in expected else (0, 1))


async def test_an_interrupt_ends_with_the_report(tmp_path: Path) -> None:
    """Ctrl-C prints the complete report and exits with 130."""
    request_received = asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        request_received.set()
        return web.Response()

    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        arguments = ("simulate", "--json", "--messages", "1000000", "--rate", "50", "--url", url)
        with ackstream(*arguments, folder=tmp_path) as process:
            await asyncio.wait_for(request_received.wait(), 30)
            process.send(signal.SIGINT)
            assert await process.wait_for_end(10) == 130
            report = orjson.loads(process.said[process.said.index("{") :])
    assert report["accepted"] > 0
    assert report["sent"] < 1000


async def test_live_traffic_lasts_until_ctrl_c(tmp_path: Path) -> None:
    """With --live the past minutes come at once and the rest in real time, until Ctrl-C prints the report."""
    sent_at: list[datetime] = []

    async def answer(request: web.Request) -> web.Response:
        if request.content_type == "application/json":
            sent_at.append(datetime.fromisoformat((await request.json())["timestamp"]))
        return web.Response()

    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app) as server:
        url, started = str(server.make_url("/")), datetime.now(UTC)
        with ackstream(
            "simulate", "--json", "--live", "--past", "1", "--rate", "50", "--url", url, folder=tmp_path
        ) as process:
            await becomes(lambda: bool(sent_at) and max(sent_at) > started)
            process.send(signal.SIGINT)
            assert await process.wait_for_end(10) == 130
            report = orjson.loads(process.said[process.said.index("{") :])
    assert min(sent_at) < started - timedelta(seconds=50)
    assert max(sent_at) <= datetime.now(UTC)
    assert report["accepted"] == report["sent"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--live", "--messages", "5"), "leave out --messages"),
        (("--live", "--shuffle"), "--shuffle"),
        (("--past", "5"), "add --live"),
    ],
)
def test_options_that_exclude_each_other_are_refused(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """An option without effect is an error that names it."""
    process = run_ackstream("simulate", *arguments, folder=tmp_path)

    assert process.returncode == 1
    assert words in process.stderr


def test_no_timestamp_is_in_the_future() -> None:
    """No timestamp is later than now for any number of messages, and the last one is recent."""
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
    """The plan holds only overlapping messages in memory."""
    tracemalloc.start()
    webhooks = plan(1_000_000, 1, start=datetime(2026, 1, 1, tzinfo=UTC), duplicates=0.1)
    sizes = []
    for _ in range(2):
        deque(islice(webhooks, 6000), maxlen=0)
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[0] < 64 * 2**20
    assert sizes[1] - sizes[0] < 2**20


def test_the_parser_accepts_the_receipts() -> None:
    """With a signature method some SMS report by receipts, and the parser reads the planned statuses."""
    secrets = parse_secrets(SECRETS)
    webhooks = list(
        plan(600, 7, start=datetime(2026, 1, 1, tzinfo=UTC), sign_receipt=ReceiptSigner(secrets, "sha256").sign)
    )
    receipts = [webhook for webhook in webhooks if webhook.content_type != "application/json"]
    assert len(receipts) > 5
    for webhook in receipts:
        event = parse(Entry(webhook.body, webhook.content_type, 0, "r"), "0/0-0")
        assert (event.message_uuid, event.status, event.channel) == (webhook.message_uuid, webhook.status, "sms")


def test_each_token_is_new_and_contains_no_secret() -> None:
    """Two calls return different tokens, without the secret."""
    signer = Signer(parse_secrets(SECRETS), "Authorization")
    first, second = (signer.sign(b"{}", 1_700_000_000.0)["Authorization"] for _ in range(2))
    assert first != second
    assert re.fullmatch(r"Bearer [\w-]+\.[\w-]+\.[\w-]+", first)
    assert "short" not in first


@pytest.mark.parametrize("command", ["simulate --messages 1", "doctor", "console link"])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://a b/", "a blank"),
        ("ftp://host/", "http://host/path"),
        ("http:///path", "no host"),
        ("http://host:99999/", "1 to 65535"),
        ("http://a..b/", "not a host name"),
    ],
)
def test_an_invalid_url_is_named_as_such(
    command: str, url: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command with --url gives the reason and does not report that nothing answers there."""
    monkeypatch.chdir(tmp_path)
    error = run_command(*command.split(), "--url", url).error
    assert reason in error
    assert "--url" in error
    assert "answers" not in error
