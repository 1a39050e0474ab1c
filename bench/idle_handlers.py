"""Handlers that do nothing with what they are given."""

from worker import StatusEvent


async def one(_event: StatusEvent) -> None:
    """Do nothing."""


async def many(_events: list[StatusEvent]) -> None:
    """Do nothing."""
