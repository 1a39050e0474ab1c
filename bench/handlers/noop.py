"""Handlers that do nothing, or fail or hang with a share of their events."""

import asyncio

from worker import Discard, StatusEvent

FAILING_OF = 20
HANGING = 5
WAIT_SECONDS = 0.02
DAY_SECONDS = 86_400

_hanging: list[str] = []


async def one(_event: StatusEvent) -> None:
    """Do nothing."""


async def many(_events: list[StatusEvent]) -> None:
    """Do nothing."""


async def fail_some(event: StatusEvent) -> None:
    """Fail with one event in FAILING_OF, at every attempt."""
    if _share(event) == 0:
        raise ValueError


async def wait(_events: list[StatusEvent]) -> None:
    """Wait for WAIT_SECONDS, as for a server, without work."""
    await asyncio.sleep(WAIT_SECONDS)


async def discard_some(event: StatusEvent) -> None:
    """Discard one event in FAILING_OF, so that it becomes a dead letter."""
    if _share(event) == 0:
        raise Discard("no use for it")


async def check_only(event: StatusEvent) -> None:
    """Look at each event as ``fail_some`` does, without failing."""
    if _share(event) < 0:
        raise ValueError


async def hang_some(event: StatusEvent) -> None:
    """Never return for the first HANGING events."""
    if len(_hanging) < HANGING:
        _hanging.append(event.event_id)
        await asyncio.sleep(DAY_SECONDS)


def _share(event: StatusEvent) -> int:
    return int(event.event_id[:8], 16) % FAILING_OF
