"""Handlers for tests: they note each call in ``calls.txt``, then do what the message's id says (``slow-0.5-7``)."""

import asyncio
import os
import time
from pathlib import Path

from worker import Discard, Retry, StatusEvent, Unavailable

CALLS = Path("calls.txt")


def note(*words: object) -> None:
    """Append a line, whole even when several processes write."""
    with CALLS.open("ab", buffering=0) as file:
        file.write((" ".join(map(str, words)) + "\n").encode())


def there(name: str) -> bool:
    """Whether there is a file of this name."""
    return Path(name).exists()


def block(seconds: float) -> None:
    """Keep the loop to itself, the first time that this is tried."""
    if not there("blocked"):
        Path("blocked").touch()
        time.sleep(seconds)


def complain(event: StatusEvent, what: str, more: str) -> None:
    """Raise what the id says: always, at first, or until there is a file named ``back``."""
    if what == "fail" or (what == "until" and event.attempt < int(more)) or (what == "down" and not there("back")):
        raise ValueError(event.to)
    if what == "discard":
        raise Discard("it is of no use")
    if what == "retry" and event.attempt == 1:
        raise Retry(0, "too early")
    if what == "away" and not there("back"):
        raise Unavailable


async def act(event: StatusEvent) -> None:
    """Do what the id says up to its first dash, some of it for as many seconds as it says after that."""
    what, more = event.message_uuid.split("-")[:2]
    complain(event, what, more)
    match what:
        case "hang":
            await asyncio.sleep(3600)
        case "deaf":
            await never()
        case "block":
            block(float(more))
        case "die" if not there("spared"):
            note("dies", event.message_uuid)
            os._exit(3)
        case "slow":
            await asyncio.sleep(float(more))


async def never() -> None:
    """Ignore cancellation until a file named `back` exists."""
    while not there("back"):
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            note("cancelled")


async def handle(event: StatusEvent) -> None:
    """Take one event."""
    note("call", event.message_uuid, event.attempt, event.replayed, event.entry)
    await act(event)
    note("done", event.message_uuid, event.attempt, time.time())


async def handle_all(events: list[StatusEvent]) -> None:
    """Take a list: as good as its worst event."""
    note("call", *(event.message_uuid for event in events))
    for event in events:
        await act(event)
    note("done", *(event.message_uuid for event in events))
