"""Warns when more than a tenth of the last 200 finished messages failed.

It warns again only after the share has fallen to half of that. The counts are in this worker's memory: run the handler
in one worker, or let each worker watch its own share. A restart resets the counts.
"""

import logging
from collections import deque

from ackstream import StatusEvent

FINISHED = {"delivered": False, "read": False, "rejected": True, "undeliverable": True}
WINDOW, MIN_COUNT, LIMIT = 200, 50, 0.1

log = logging.getLogger("failure_share")


class Share:
    """The share of failures among the last finished messages."""

    def __init__(self) -> None:
        self.failed: deque[bool] = deque(maxlen=WINDOW)
        self.warned = False

    def add(self, failed: bool) -> float | None:
        """Count one message; return the share if a warning is due."""
        self.failed.append(failed)
        share = sum(self.failed) / len(self.failed)
        if share <= LIMIT / 2:
            self.warned = False
        if self.warned or len(self.failed) < MIN_COUNT or share <= LIMIT:
            return None
        self.warned = True
        return share


shares: dict[str, Share] = {}


async def on_statuses(events: list[StatusEvent]) -> None:
    """Count a list of statuses, with one share for each channel."""
    for event in events:
        if event.status in FINISHED and not event.replayed:
            channel = event.channel or "unknown"
            share = shares.setdefault(channel, Share()).add(FINISHED[event.status])
            if share is not None:
                log.warning("%.0f %% of the last messages by %s failed", 100 * share, channel)
