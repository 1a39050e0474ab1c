"""Records spans and sends them to an OTLP endpoint. A full queue and an endpoint that fails lose spans, nothing else.

Two providers share one queue. Ackstream decides itself which webhooks it traces (``Tracing.share``), because a decision
by the SDK takes 17 times as long as one by ``random``; its own provider records every span. The provider for the code
of users samples by the same share, and follows the decision on the span around it.
"""

import asyncio
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Iterable, Mapping, MutableMapping
from contextlib import AbstractContextManager, asynccontextmanager
from functools import cached_property
from importlib.metadata import version
from typing import Literal

import structlog
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.typing import EventDict, WrappedLogger

from runtime import logs
from runtime.errors import CommandError
from runtime.tracing.queue import SpanQueue
from runtime.tracing.settings import OtelSettings

log = structlog.get_logger("tracing")

CLOSE_SECONDS = 2.0
POLL_SECONDS = 0.01

_KINDS = {"server": SpanKind.SERVER, "consumer": SpanKind.CONSUMER, "producer": SpanKind.PRODUCER}
_FAILED = Status(StatusCode.ERROR)
_PROPAGATOR = TraceContextTextMapPropagator()
_NO_CONTEXT = context.Context()
_OWN_TRACEPARENT = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class _HashedResource(Resource):
    """A resource that computes its hash once. The exporter asks for it with each span, and each time it takes 4 µs."""

    @cached_property
    def _hash(self) -> int:
        return super().__hash__()

    def __hash__(self) -> int:
        return self._hash


class Tracing:
    """Starts the spans of this process. ``share`` is the share of webhooks to trace."""

    def __init__(self, provider: trace.TracerProvider, share: float) -> None:
        self._tracer = provider.get_tracer("ackstream", version("ackstream"))
        self.share = share

    def run_span(
        self,
        name: str,
        kind: Literal["server", "consumer", "producer"],
        attributes: Mapping[str, str | int],
        *,
        parent: str | None = None,
        links: Iterable[str] = (),
    ) -> AbstractContextManager[Span]:
        """Run a block in a span. ``parent`` and ``links`` are values of ``traceparent``; invalid ones are ignored.

        ``parent`` is one that ``add_context`` wrote; without it the span starts a trace. ``links`` may be of others.
        An error that leaves the block is not recorded, because its text may quote private data.
        """
        above = _continue(parent) if parent else _NO_CONTEXT
        linked = [Link(span_context) for span_context in map(_read_context, links) if span_context.is_valid]
        return _CurrentSpan(self._tracer.start_span(name, above, _KINDS[kind], attributes, linked))

    def mark_failed(self, span: Span, error_type: str, place: str = "") -> None:
        """Mark a span as failed, with the class and the place of the error."""
        span.set_status(_FAILED)
        span.set_attribute("error.type", error_type)
        if place:
            span.set_attribute("ackstream.error.place", place)

    def add_context(self, headers: MutableMapping[str, str]) -> None:
        """Add the ``traceparent`` of the current span to these headers; nothing without a span."""
        _PROPAGATOR.inject(headers)


class _CurrentSpan(AbstractContextManager[Span]):
    """Makes a span the current one until the block ends. ``use_span`` takes a tenth of the time of a span more."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(self, *_error: object) -> None:
        context.detach(self._token)
        self._span.end()


@asynccontextmanager
async def run_tracing(settings: OtelSettings, service: str) -> AsyncIterator[Tracing]:
    """Send spans until the block ends, and then for at most CLOSE_SECONDS. Raises CommandError."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # may show the endpoint; the queue logs
    try:
        queue = SpanQueue(OTLPSpanExporter(), settings.bsp_max_queue_size)
    except ValueError as exc:
        raise CommandError(f"OpenTelemetry cannot start ({exc}): correct the variables OTEL_BSP_…") from None
    named = OTELResourceDetector().detect().attributes.get(SERVICE_NAME, service)
    detected = Resource.create({SERVICE_NAME: named})
    resource = _HashedResource(detected.attributes, detected.schema_url)
    own = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
    users = TracerProvider(ParentBased(TraceIdRatioBased(settings.share)), resource, shutdown_on_exit=False)
    for provider in own, users:
        provider.add_span_processor(queue)
    trace.set_tracer_provider(users)
    logs.add_processor(_add_trace_id)
    log.info("tracing.started", service=named, share=settings.share)
    try:
        yield Tracing(own, settings.share)
    finally:
        await _close(queue)


async def _close(queue: SpanQueue) -> None:
    closing = threading.Thread(target=queue.shutdown, name="tracing", daemon=True)
    closing.start()
    deadline = time.monotonic() + CLOSE_SECONDS
    while closing.is_alive() and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread has no event of asyncio
        await asyncio.sleep(POLL_SECONDS)
    queue.count_waiting()


def _continue(traceparent: str) -> context.Context:
    """Return the context of a span of Ackstream. The propagator, which also reads other forms, takes twice as long."""
    if (fields := _OWN_TRACEPARENT.fullmatch(traceparent)) is None:
        return _NO_CONTEXT
    trace_id, span_id, flags = (int(text, 16) for text in fields.groups())
    span_context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return trace.set_span_in_context(NonRecordingSpan(span_context), _NO_CONTEXT)


def _read_context(traceparent: str) -> SpanContext:
    return trace.get_current_span(_PROPAGATOR.extract({"traceparent": traceparent})).get_span_context()


def _add_trace_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the id of the current trace to a log line."""
    span_context = trace.get_current_span().get_span_context()
    if span_context.is_valid:
        event.setdefault("trace_id", trace.format_trace_id(span_context.trace_id))
    return event
