"""The queue of spans before an endpoint that is away, refuses, or never answers."""

import asyncio
import importlib
import time

import pytest
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY

from console.up.valkey import find_free_port
from runtime.tracing.queue import SpanQueue
from tests.support.processes import becomes
from tests.support.servers.otlp_receiver import run_otlp_receiver

SPANS = 100
ROOM = 10
EXPORT_SECONDS = 1
"""How long an export tries. Ends of spans that waited for room would wait for nine exports."""
EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


def count_dropped(why: str) -> float:
    return REGISTRY.get_sample_value("ackstream_spans_dropped_total", {"why": why}) or 0


@pytest.mark.parametrize("fault", ["away", "refuses", "never answers"])
async def test_each_span_that_is_lost_is_counted(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """The end of a span never waits. A span fits into the queue or is lost, and a failed export loses its batch."""
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", str(ROOM))
    before = {why: count_dropped(why) for why in ("full", "failed")}
    async with run_otlp_receiver() as receiver:
        receiver.how = None if fault == "never answers" else 400
        port = find_free_port() if fault == "away" else receiver.port
        exporter = importlib.import_module(EXPORTER).OTLPSpanExporter  # each process of the tests reads this module
        queue = SpanQueue(exporter(f"http://127.0.0.1:{port}/v1/traces", timeout=EXPORT_SECONDS), ROOM)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(queue)
        tracer = provider.get_tracer("tested")

        started = time.monotonic()
        for _ in range(SPANS):
            tracer.start_span("tested").end()
        seconds = time.monotonic() - started

        def count_lost() -> float:
            return sum(count_dropped(why) - before[why] for why in before)

        await becomes(lambda: count_lost() == SPANS)
        await asyncio.to_thread(queue.shutdown)
    assert seconds < 5 * EXPORT_SECONDS
    assert count_dropped("failed") - before["failed"] >= ROOM
