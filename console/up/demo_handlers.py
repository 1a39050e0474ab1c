"""The two handlers of ``ackstream demo``: one that fails now and then, and one whose target is away now and then."""

import asyncio
import hashlib
import time
from collections.abc import Sequence

from worker.events.event import StatusEvent
from worker.handlers.errors import Unavailable

CYCLE_SECONDS = 240
AWAY_SECONDS = 40
"""The target of ``crm`` is away for this part of each cycle."""
MISSING_ONE_IN = 400
SLOW_ONE_IN = 40


class OrderMissing(Exception):  # noqa: N818 - named for what is wrong
    """The shop has no order with the reference of this message."""


async def update_order(event: StatusEvent) -> None:
    """Handle one event as a shop does. The same event fails in the same way at each attempt."""
    number = int.from_bytes(hashlib.sha256(event.event_id.encode()).digest()[:4])
    await asyncio.sleep(0.002 + number % 7 / 1000)
    if number % MISSING_ONE_IN == 0:
        raise OrderMissing(f"the shop has no order {event.client_ref or event.message_uuid!r}")
    if number % SLOW_ONE_IN == 1 and event.attempt == 1:
        raise TimeoutError("the order service did not answer within 2 s")


async def update_crm(_events: Sequence[StatusEvent]) -> None:
    """Handle a list of events. Raises Unavailable while the target is away."""
    await asyncio.sleep(0.01)
    if time.time() % CYCLE_SECONDS < AWAY_SECONDS:
        raise Unavailable("crm answers 503: maintenance")
