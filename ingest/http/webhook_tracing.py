"""Traces webhooks: a span for each receipt that is chosen by chance, whose context goes into the entry."""

from collections.abc import Coroutine
from copy import copy
from random import random
from time import perf_counter
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs

from ingest.append.message_appender import AnyAppender
from ingest.auth.policy import Authentication
from ingest.auth.quarantine import Quarantine
from ingest.http.request import Request
from ingest.http.responses import Response
from ingest.http.webhook import ClockMs, NotReadyReason, Webhook
from ingest.metrics import ANSWER_SECONDS
from ingest.settings import IngestSettings
from runtime.tracing.process import find_trace_id

if TYPE_CHECKING:
    from runtime.tracing.tracer import Tracing

METHODS = frozenset((hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_POST))
FIRST_ERROR = 500
"""Answers from here on are failures of the server: https://opentelemetry.io/docs/specs/semconv/http/http-spans/."""


class TracedWebhook(Webhook):
    """Answers requests like Webhook, and traces a share of those on the webhooks' paths."""

    def __init__(
        self,
        tracing: "Tracing",
        appender: AnyAppender,
        authentication: Authentication,
        quarantine: Quarantine,
        clock_ms: ClockMs,
        not_ready_reason: NotReadyReason,
        settings: IngestSettings,
    ) -> None:
        super().__init__(appender, authentication, quarantine, clock_ms, not_ready_reason, settings)
        self._tracing = tracing
        self._share = tracing.share
        self._handle = super().handle

    def handle(self, request: Request) -> Coroutine[Any, Any, Response]:
        """Handle a request, in a span if chance chooses it. A client cannot choose."""
        return self._trace(request) if random() < self._share else self._handle(request)  # noqa: S311 - no secret

    async def _trace(self, request: Request) -> Response:
        started = perf_counter()
        route = self.find_route(request)
        if route is None:
            return await super().handle(request)
        method = request.method if request.method in METHODS else "_OTHER"
        attributes = {"http.request.method": method, "http.route": route}
        sender = request.headers.getall("traceparent", ())[:1]
        with self._tracing.run_span(f"{method} {route}", "server", attributes, links=sender) as span:
            headers: dict[str, str] = {}
            self._tracing.add_context(headers)
            traced = copy(self)
            traced.traceparent = headers["traceparent"]
            response = await super(TracedWebhook, traced).handle(request)
            span.set_attribute("http.response.status_code", response.status)
            if response.status >= FIRST_ERROR:
                self._tracing.mark_failed(span, str(response.status))
        ANSWER_SECONDS.keep_exemplar(perf_counter() - started, find_trace_id(traced.traceparent))
        return response
