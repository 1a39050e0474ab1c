"""A handler that notes the start and the end of each call, for `tests.support.order.checker`.

The message's id says how its events behave, by their number: ``bad`` ones fail, some of them always.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from worker import StatusEvent

CALLS = Path(__file__).parent / "calls.txt"
ALWAYS, ONCE = 6, 2
SLOW_SECONDS = float(os.environ.get("ORDERED_SLOW", "0.01"))


def note(*words: object) -> None:
    """Append a line, whole even when several processes write."""
    with CALLS.open("ab", buffering=0) as file:
        file.write((" ".join(map(str, words)) + "\n").encode())


async def handle(event: StatusEvent) -> None:
    """Take one event. Every third event of a bad message fails once, every seventh fails always."""
    note("start", event.message_uuid, event.entry, os.getpid())
    try:
        await asyncio.sleep(random.uniform(0, SLOW_SECONDS))  # noqa: S311 - no secret
        if event.message_uuid.startswith("bad"):
            number = int(event.client_ref or 0)
            if number % 7 == ALWAYS or (number % 3 == ONCE and event.attempt == 1):
                raise ValueError
    finally:
        note("end" if sys.exc_info()[0] is None else "failed", event.message_uuid, event.entry, os.getpid())


async def handle_all(events: list[StatusEvent]) -> None:
    """Take a list, which must not have two events of a message."""
    for event in events:
        note("start", event.message_uuid, event.entry, os.getpid())
    await asyncio.sleep(random.uniform(0, SLOW_SECONDS))  # noqa: S311 - no secret
    for event in events:
        note("end", event.message_uuid, event.entry, os.getpid())
