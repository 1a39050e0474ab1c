"""Traces from the receipt to the handlers, with real processes and a real receiver of OTLP."""

import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.up.valkey import find_free_port
from stream.keys import Shard
from stream.redis.client import client
from tests.support.handlers import with_spans
from tests.support.processes import Ingest, Process, Valkey, quick_worker, run_ackstream
from tests.support.samples.events import body
from tests.support.servers.otlp_receiver import OtlpReceiver, run_otlp_receiver
from tests.support.servers.webhook_receiver import SECRET, Receiver, run_receiver
from tests.support.waiting import until

NUMBER = "447700900987"
STRANGER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"  # not sampled: the sender does not decide that
STRANGERS_CONTEXT = STRANGER[3:35], STRANGER[36:52]
MESSAGES = ("plain-1", "retry-1", "discard-1", "spooled-1")
EXEMPLAR = re.compile(r'^(\w+)_bucket\{.*\} \S+ # \{trace_id="(\w{32})"\}', re.MULTILINE)
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


@dataclass(slots=True)
class TracedSystem:
    """Ingest and a worker that send all their spans to a receiver; the worker runs only after `work`."""

    valkey: Valkey
    server: Redis
    shard: Shard
    ingest: Ingest
    spans: OtlpReceiver
    target: Receiver
    settings: dict[str, str]
    folder: Path
    running: ExitStack

    async def post(self, message: str) -> None:
        async with (
            aiohttp.ClientSession(headers={"traceparent": STRANGER, "Content-Type": "application/json"}) as http,
            http.post(self.ingest.url, data=body(message_uuid=message, to=NUMBER)) as answer,
        ):
            assert answer.status == 200

    def work(self) -> Process:
        target = f"target=forward:{self.target.url}"
        handlers = f"one=with_spans:single,many=with_spans:many,{target}"
        return self.running.enter_context(quick_worker(0.2, handlers, self.folder, self.settings))

    def run(self, *arguments: str) -> None:
        done = run_ackstream(*arguments, folder=self.folder, **self.settings)
        assert done.returncode == 0, done.stderr

    async def read_contexts(self) -> list[tuple[str, str]]:
        """The trace contexts of all entries, in order."""
        entries: Any = await self.server.xrange(self.shard.stream)
        texts = [fields[b"traceparent"].decode() for _, fields in entries]
        return [(text[3:35], text[36:52]) for text in texts]


@pytest.fixture
async def traced(
    own_valkey: Valkey, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TracedSystem]:
    """Ingest, before any worker."""
    shutil.copy(str(with_spans.__file__), tmp_path)
    common = {"redis_url": own_valkey.url, "stream": shard.name, "log_format": "json", "data": str(tmp_path / "data")}
    async with run_otlp_receiver() as spans, run_receiver() as target:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", spans.url)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        settings = {**common, "tracing": "otlp", "forward_secrets": SECRET}
        server = client(own_valkey.url)
        with ExitStack() as running:
            async with Ingest(tmp_path, **settings).run() as ingest:
                settings["admin_port"] = str(find_free_port())
                yield TracedSystem(own_valkey, server, shard, ingest, spans, target, settings, tmp_path, running)
        await server.aclose()


async def test_a_trace_leads_from_the_receipt_to_every_call(traced: TracedSystem) -> None:
    """Single calls are children of the receipt, through spool, retry and replays; a list links to each receipt.

    A drained batch of the spool links to its receipts too. The sender's context is a link of the receipt only. The
    target of `forward` gets the context of its call.
    """
    for message in MESSAGES[:-1]:
        await traced.post(message)
    traced.valkey.kill()
    await traced.post(MESSAGES[-1])
    await traced.valkey.start()
    await until(lambda: has_length(traced.server, traced.shard.stream, len(MESSAGES)))
    worker = traced.work()
    receipts = {span.context: span for span in await traced.spans.has(4, kind="SERVER")}
    contexts = await traced.read_contexts()
    (list_call,) = await traced.spans.has(1, messaging_consumer_group_name="many")
    single = await traced.spans.has(5, messaging_consumer_group_name="one")
    forwarded = await traced.spans.has(4, messaging_consumer_group_name="target")

    assert set(contexts) == set(receipts)
    assert len({span.trace_id for span in receipts.values()} | {STRANGERS_CONTEXT[0]}) == 5
    assert [(span.parent, span.links) for span in receipts.values()] == [("", frozenset({STRANGERS_CONTEXT}))] * 4
    assert (list_call.parent, list_call.links) == ("", frozenset(contexts))
    assert list_call.trace_id not in {trace_id for trace_id, _ in contexts}
    assert Counter(span.above for span in forwarded) == Counter(contexts)
    plain, retry, discarded, spooled = contexts
    assert Counter(span.above for span in single) == Counter((plain, retry, retry, discarded, spooled))
    assert [(span.attributes.get("ackstream.attempt"), span.has_failed) for span in single if span.above == retry] == [
        (None, True),
        (2, False),
    ]
    sent = {(text[3:35], text[36:52]) for text in (headers["traceparent"] for headers in traced.target.sent)}
    assert sent == {span.context for span in forwarded}
    assert {span.above for span in traced.spans.find(name="own")} == {span.context for span in single}
    assert [span.above for span in traced.spans.find(name="own list")] == [list_call.context]
    assert all(span.links == frozenset() for span in (*single, *forwarded))
    (drain,) = await traced.spans.has(1, name="drain spool")
    assert (drain.kind, drain.parent, drain.links) == ("PRODUCER", "", frozenset({spooled}))
    assert drain.attributes["messaging.batch.message_count"] == 1
    await check_replays(traced, plain, discarded)
    await check_exemplars(traced, {trace_id for trace_id, _ in contexts})
    check_logs(worker, plain, retry)
    check_privacy(traced)


async def check_replays(traced: TracedSystem, plain: tuple[str, str], discarded: tuple[str, str]) -> None:
    """Copies of entries and of dead letters continue the trace of the receipt."""
    letters: Any = await traced.server.xrange(traced.shard.dead("one"))
    ((_, letter),) = letters
    traced.run("replay", "run", "--group", "one", "--message", "plain-1")
    traced.run("dead-letters", "replay", "--group", "one", "--all")
    replayed = await traced.spans.has(2, ackstream_replayed=True)

    assert discarded[0] in letter[b"traceparent"].decode()
    assert {span.above for span in replayed} == {plain, discarded}


async def check_exemplars(traced: TracedSystem, traces: set[str]) -> None:
    """A reader of OpenMetrics gets trace ids with both histograms; other readers get none."""
    ports = traced.ingest.admin_port, int(traced.settings["admin_port"])
    async with aiohttp.ClientSession() as http:
        for port, histogram in zip(ports, ("ackstream_answer_seconds", "ackstream_handle_seconds"), strict=True):
            url = f"http://127.0.0.1:{port}/metrics"
            async with http.get(url, headers={"Accept": OPENMETRICS}) as answer:
                exemplars = EXEMPLAR.findall(await answer.text())
            async with http.get(url) as answer:
                assert "trace_id" not in await answer.text()
            assert {name for name, _ in exemplars} == {histogram}
            assert {trace_id for _, trace_id in exemplars} <= traces


def check_logs(worker: Process, plain: tuple[str, str], retry: tuple[str, str]) -> None:
    """A line that a handler logs, and the line of a failed call, have the id of the trace."""
    assert worker.read_log("seen plain-1")[0]["trace_id"] == plain[0]
    assert retry[0] in {line.get("trace_id") for line in worker.read_log("handler.failed")}


def check_privacy(traced: TracedSystem) -> None:
    """No span has the payload, a number, or the text of an error."""
    sent = b"".join(traced.spans.raw)
    assert all(word not in sent for word in (NUMBER.encode(), NUMBER[-6:].encode(), b"secret words", b"hunter2"))
    (failed,) = {span.attributes["error.type"] for span in traced.spans.spans if span.has_failed} - {"Discard"}
    assert failed == "Retry"


async def has_length(server: Redis, key: str, length: int) -> bool:
    with suppress(RedisError):
        return bool(await server.xlen(key) == length)
    return False
