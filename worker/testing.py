"""Helpers to test your own handlers without Redis.

::

    from ackstream import testing
    from orders import on_status

    async def test_a_delivered_message_closes_its_order():
        outcome = await testing.run(on_status, testing.event("whatsapp", "delivered", client_ref="order-7"))
        assert outcome.word == "done"

``testing.event`` makes an event of any channel and status (``testing.STATUSES``) from a payload as the provider sends
it. ``testing.event_of`` makes an event from your own payload. ``testing.run`` calls the handler as the worker does,
with its timeout, and returns how the worker would settle the event.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stream.entry import Entry
from worker.dispatch.call import Handler, call_handler
from worker.events.event import StatusEvent
from worker.events.samples import DISPATCH, RECEIPT, STATUSES, payload
from worker.events.vonage import parse
from worker.handlers.errors import Unavailable
from worker.handlers.function import Function, ListFunction, SingleEventFunction, takes_lists
from worker.settle.retry_policy import RetryPolicy

__all__ = ["DISPATCH", "RECEIPT", "STATUSES", "Outcome", "event", "event_of", "payload", "run"]

RECEIVED_MS = 1_738_584_866_000
"""The time of receipt of every test payload: 2025-02-03 12:14:26 UTC."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the worker would settle the events.

    ``word`` is ``done``; ``retry``: a delayed retry after at most ``after_seconds``; ``discarded`` or, after the last
    attempt, ``given up``: a dead letter; or ``unavailable``: the worker tries again until the target is back and counts
    no attempt. ``reason`` is the one that ``ackstream dead-letters`` would show. ``error`` is the handler's.
    """

    word: str
    after_seconds: float | None = None
    reason: str | None = None
    error: BaseException | None = None


def event(channel: str = "sms", status: str = "delivered", /, *, attempt: int = 1, **changes: Any) -> StatusEvent:
    """Return an event of a channel and status. ``changes`` replace fields of its payload; None removes a field."""
    return event_of(payload(channel, status, **changes), attempt=attempt)


def event_of(payload: bytes, *, attempt: int = 1, replayed: bool = False) -> StatusEvent:
    """Return the event of a payload: a JSON body, a form, or a query. Raises worker.events.event.InvalidStatus."""
    details: dict[str, Any] = {"attempt": attempt - 1} if attempt > 1 else {}
    if replayed:
        details["replay"] = "testing"
    return parse(Entry(payload, "application/json", RECEIVED_MS, "testing", **details), "0/1-0")


async def run(
    handler: Function | Callable[[Any], Any],
    events: StatusEvent | Sequence[StatusEvent],
    *,
    timeout_seconds: float = 60.0,
    attempts: int = 24,
) -> Outcome:
    """Call a handler with an event, or with a list if it takes lists. Raises CommandError if it is not a handler."""
    batch = [events] if isinstance(events, StatusEvent) else list(events)
    lists = takes_lists(getattr(handler, "__name__", repr(handler)), handler)
    if not lists and len(batch) != 1:
        raise ValueError("this handler takes one event at a time")
    function = (ListFunction if lists else SingleEventFunction)(handler, timeout_seconds)
    async with asyncio.TaskGroup() as tasks:  # a handler may cancel its own task, and a test that of this call
        task = tasks.create_task(_call(function, batch))
    error = task.result()
    if isinstance(error, KeyboardInterrupt):  # Ctrl-C ends the test
        raise error
    return Outcome("done") if error is None else _outcome(error, max(event.attempt for event in batch), attempts)


async def _call(handler: Handler, batch: Sequence[StatusEvent]) -> BaseException | None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs as a task
    return await call_handler(handler, batch, task, ())


def _outcome(error: BaseException, attempt: int, attempts: int) -> Outcome:
    if isinstance(error, Unavailable):
        return Outcome("unavailable", error=error)
    disposition = RetryPolicy(attempts=attempts).decide(error, attempt, 1.0)
    if disposition.delay_seconds is None:
        return Outcome("discarded", None, disposition.error, error)
    if disposition.last:
        return Outcome("given up", None, f"attempts: {disposition.error}", error)
    return Outcome("retry", disposition.delay_seconds, disposition.error, error)
