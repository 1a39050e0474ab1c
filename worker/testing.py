"""For tests of your own handlers, without Redis.

::

    from worker import testing
    from orders import on_status

    async def test_a_delivered_message_closes_its_order():
        outcome = await testing.run(on_status, testing.event("whatsapp", "delivered", client_ref="order-7"))
        assert outcome.word == "done"

``testing.event`` makes an event of any channel and status (``testing.STATUSES``) as the worker would, from a payload as
the provider sends it; ``testing.event_of`` one of a payload that you have. ``testing.run`` calls the handler as the
worker would, timeout included, and tells what would become of the event.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stream.entry import Entry
from worker.events.event import StatusEvent
from worker.events.samples import DISPATCH, RECEIPT, STATUSES, payload
from worker.events.vonage import parse
from worker.handlers.errors import Unavailable
from worker.handlers.function import Function, ListFunction, SingleEventFunction, takes_lists
from worker.settle.retry_policy import judge
from worker.settle.schedule import Schedule

__all__ = ["DISPATCH", "RECEIPT", "STATUSES", "Outcome", "event", "event_of", "payload", "run"]

RECEIVED_MS = 1_738_584_866_000
"""When the payload is said to have been received: 2025-02-03 12:14:26 UTC."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What would become of the events.

    ``word`` is ``done``; ``retry``, after at most ``after_seconds``; ``discarded`` or, after the last attempt, ``given
    up``: both are dead letters; or ``unavailable``: tried again until the target is back, with no attempt counted.
    ``reason`` is what ``ackstream dead-letters`` would show. ``error`` is what the handler raised.
    """

    word: str
    after_seconds: float | None = None
    reason: str | None = None
    error: BaseException | None = None


def event(channel: str = "sms", status: str = "delivered", /, *, attempt: int = 1, **changes: Any) -> StatusEvent:
    """Return an event of this channel and status. Fields of its payload can be changed, or removed by None."""
    return event_of(payload(channel, status, **changes), attempt=attempt)


def event_of(payload: bytes, *, attempt: int = 1, replayed: bool = False) -> StatusEvent:
    """Return the event of a payload: a JSON body, a form, or a query. Raises worker.status.InvalidStatus."""
    known: dict[str, Any] = {"attempt": attempt - 1} if attempt > 1 else {}
    if replayed:
        known["replay"] = "testing"
    return parse(Entry(payload, "application/json", RECEIVED_MS, "testing", **known), "0/1-0")


async def run(
    handler: Function | Callable[[Any], Any],
    given: StatusEvent | Sequence[StatusEvent],
    *,
    timeout_seconds: float = 60.0,
    attempts: int = 24,
) -> Outcome:
    """Call a handler with an event, or with a list if it takes lists. Raises Refusal for what is no handler."""
    events = [given] if isinstance(given, StatusEvent) else list(given)
    lists = takes_lists(getattr(handler, "__name__", repr(handler)), handler)
    if not lists and len(events) != 1:
        raise ValueError("this handler takes one event at a time")
    called = (ListFunction if lists else SingleEventFunction)(handler, timeout_seconds)
    try:
        await called.handle(events)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever a handler raises is its events' failure
        return _outcome(exc, max(event.attempt for event in events), attempts)
    return Outcome("done")


def _outcome(error: BaseException, attempt: int, attempts: int) -> Outcome:
    if isinstance(error, Unavailable):
        return Outcome("unavailable", error=error)
    verdict = judge(error, attempt, Schedule(attempts=attempts), 1.0)
    if verdict.delay_seconds is None:
        return Outcome("discarded", None, verdict.error, error)
    if verdict.last:
        return Outcome("given up", None, f"attempts: {verdict.error}", error)
    return Outcome("retry", verdict.delay_seconds, verdict.error, error)
