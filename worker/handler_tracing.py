"""Traces the calls of a handler, and sends the context of a call with the requests of `forward`."""

from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp

from worker.dispatch.call import Handler
from worker.events.event import StatusEvent
from worker.settle.retry_policy import Failure

if TYPE_CHECKING:
    from runtime.tracing.tracer import Tracing


class TracedHandler:
    """Runs a call in a span if one of its events is traced. The code of the handler sees this span as the current one.

    The span of a call with one event is a child of the event's receipt. The span of a call with more events starts a
    trace and links to each traced receipt: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/.
    """

    def __init__(self, handler: Handler, tracing: "Tracing", stream: str, group: str) -> None:
        self.alone: Callable[[StatusEvent], bool] = handler.alone
        self._handle = handler.handle
        self._tracing = tracing
        self._name = f"process {stream}"
        self._attributes: dict[str, str | int] = {
            "messaging.system": "redis",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": stream,
            "messaging.consumer.group.name": group,
        }

    def handle(self, events: Sequence[StatusEvent]) -> Coroutine[Any, Any, None]:
        """Call the handler. Raises its exception."""
        links = [event.traceparent for event in events if event.traceparent is not None]
        if not links:
            return self._handle(events)
        return self._trace_event(events) if len(events) == 1 else self._trace_list(events, links)

    def _trace_event(self, events: Sequence[StatusEvent]) -> Coroutine[Any, Any, None]:
        event = events[0]
        attributes = self._attributes | {"messaging.message.id": event.entry}
        if event.attempt > 1:
            attributes["ackstream.attempt"] = event.attempt
        if event.replayed:
            attributes["ackstream.replayed"] = True
        return self._run(events, attributes, event.traceparent, ())

    def _trace_list(self, events: Sequence[StatusEvent], links: Sequence[str]) -> Coroutine[Any, Any, None]:
        return self._run(events, self._attributes | {"messaging.batch.message_count": len(events)}, None, links)

    async def _run(
        self, events: Sequence[StatusEvent], attributes: dict[str, str | int], parent: str | None, links: Sequence[str]
    ) -> None:
        with self._tracing.run_span(self._name, "consumer", attributes, parent=parent, links=links) as span:
            try:
                await self._handle(events)
            except BaseException as exc:
                failure = Failure.from_error(exc, 0)
                self._tracing.mark_failed(span, failure.kind, failure.place)
                raise


def trace_requests(tracing: "Tracing") -> aiohttp.TraceConfig:
    """Return the configuration of a client that adds the context of the current span to each request."""

    async def add_context(
        _session: aiohttp.ClientSession, _context: SimpleNamespace, request: aiohttp.TraceRequestStartParams
    ) -> None:
        tracing.add_context(request.headers)

    config = aiohttp.TraceConfig()
    config.on_request_start.append(add_context)
    return config
