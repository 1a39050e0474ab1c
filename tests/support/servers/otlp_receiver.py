"""A real HTTP server that takes traces by OTLP and decodes them, or refuses them, or never answers."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.processes import becomes


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it arrived, with its ids in hex. ``parent`` is empty for a root."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent: str
    links: frozenset[tuple[str, str]]
    attributes: Mapping[str, Any]
    has_failed: bool

    @property
    def context(self) -> tuple[str, str]:
        return self.trace_id, self.span_id

    @property
    def above(self) -> tuple[str, str]:
        """The context of its parent."""
        return self.trace_id, self.parent


@dataclass(slots=True)
class OtlpReceiver:
    """The received spans, and how exports are answered: with a status, or never."""

    port: int = 0
    how: int | None = 200
    spans: list[ReceivedSpan] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    exports: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.exports += 1
        if self.how is None:
            await self.release.wait()
        if self.how == 200:
            self.raw.append(body)
            self.spans += _decode(body)
        return web.Response(status=self.how or 200)

    def find(self, **attributes: Any) -> list[ReceivedSpan]:
        """The spans with these values of fields or attributes; ``_`` in a name is ``.``."""
        return [span for span in self.spans if all(_read(span, name) == value for name, value in attributes.items())]

    async def has(self, number: int, **attributes: Any) -> list[ReceivedSpan]:
        """Wait until this number of such spans has arrived, and return them."""
        await becomes(lambda: len(self.find(**attributes)) >= number)
        return self.find(**attributes)


def _read(span: ReceivedSpan, name: str) -> Any:
    return getattr(span, name) if name in ReceivedSpan.__slots__ else span.attributes.get(name.replace("_", "."))


def _decode(body: bytes) -> Iterator[ReceivedSpan]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = next(pair.value.string_value for pair in resource.resource.attributes if pair.key == "service.name")
        for scope in resource.scope_spans:
            yield from (_read_span(service, span) for span in scope.spans)


def _read_span(service: str, span: Span) -> ReceivedSpan:
    values = ((pair.key, pair.value, pair.value.WhichOneof("value")) for pair in span.attributes)
    return ReceivedSpan(
        service,
        span.name,
        Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        frozenset((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        {key: getattr(value, kind) for key, value, kind in values if kind},
        span.status.code == Status.STATUS_CODE_ERROR,
    )


@asynccontextmanager
async def run_otlp_receiver() -> AsyncIterator[OtlpReceiver]:
    """A receiver on loopback for the length of the block."""
    receiver = OtlpReceiver()
    app = web.Application()
    app.router.add_post("/v1/traces", receiver.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        receiver.release.set()
        await runner.cleanup()
