"""Handlers that do nothing with what they are given, or fail or hang with some of it."""

import asyncio

from worker import StatusEvent

FAILING_OF = 20
HANGING = 5
DAY_SECONDS = 86_400

_hanging: list[str] = []


async def one(_event: StatusEvent) -> None:
    """Do nothing."""


async def many(_events: list[StatusEvent]) -> None:
    """Do nothing."""


async def failing(event: StatusEvent) -> None:
    """Fail with one event in FAILING_OF, whenever it comes."""
    if _share(event) == 0:
        raise ValueError


async def spared(event: StatusEvent) -> None:
    """Look at each event as ``failing`` does, and fail with none."""
    if _share(event) < 0:
        raise ValueError


async def hanging(event: StatusEvent) -> None:
    """Never come back from the first HANGING events."""
    if len(_hanging) < HANGING:
        _hanging.append(event.event_id)
        await asyncio.sleep(DAY_SECONDS)


def _share(event: StatusEvent) -> int:
    return int(event.event_id[:8], 16) % FAILING_OF
