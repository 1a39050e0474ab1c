"""Handlers for tests that record spans and log lines of their own, and fail as the message's id says."""

import logging

from opentelemetry import trace

from worker import Discard, Retry, StatusEvent

tracer = trace.get_tracer("orders")
log = logging.getLogger("orders")


async def single(event: StatusEvent) -> None:
    """Take one event."""
    with tracer.start_as_current_span("own", attributes={"message": event.message_uuid}):
        log.warning("seen %s", event.message_uuid)
    if event.message_uuid.startswith("retry") and event.attempt == 1:
        raise Retry(0, "secret words")
    if event.message_uuid.startswith("discard") and not event.replayed:
        raise Discard("secret words")


async def many(events: list[StatusEvent]) -> None:
    """Take a list."""
    with tracer.start_as_current_span("own list", attributes={"events": len(events)}):
        pass
