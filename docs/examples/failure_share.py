"""Warns when the share of messages that fail rises: of the last 200 that ended, more than a tenth.

It warns again only after the share fell to half of that. The counts are in this worker's memory: start the handler with
one worker, or let each worker watch its own share. A restart starts the counts again.
"""

import logging
from collections import deque

from ackstream import StatusEvent

ENDED = {"delivered": False, "read": False, "rejected": True, "undeliverable": True}
WINDOW, FEWEST, MOST = 200, 50, 0.1

log = logging.getLogger("failure_share")


class Share:
    """The share of failures among the last messages that ended."""

    def __init__(self) -> None:
        self.failed: deque[bool] = deque(maxlen=WINDOW)
        self.warned = False

    def add(self, failed: bool) -> float | None:
        """Take one in; returns the share when it is time to warn."""
        self.failed.append(failed)
        share = sum(self.failed) / len(self.failed)
        if share <= MOST / 2:
            self.warned = False
        if self.warned or len(self.failed) < FEWEST or share <= MOST:
            return None
        self.warned = True
        return share


shares: dict[str, Share] = {}


async def on_statuses(events: list[StatusEvent]) -> None:
    """Take a list of statuses; each channel's share is counted for itself."""
    for event in events:
        if event.status in ENDED and not event.replayed:
            channel = event.channel or "unknown"
            share = shares.setdefault(channel, Share()).add(ENDED[event.status])
            if share is not None:
                log.warning("%.0f %% of the last messages by %s failed", 100 * share, channel)
