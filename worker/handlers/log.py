"""The ``log`` handler: one line per status, with the fields that the Java quickstart of Vonage prints."""

from collections.abc import Callable, Sequence

import structlog

from runtime import logs
from worker.events.event import StatusEvent, mask

log = structlog.get_logger("status")

Show = Callable[[str | None], str | None]


class Log:
    """Writes message id, status, time, from, to and channel. Masks phone numbers unless ``reveal`` is set."""

    def __init__(self, *, reveal: bool) -> None:
        self._show: Show = (lambda number: number) if reveal else mask

    def alone(self, _event: StatusEvent) -> bool:
        """Return False: one call writes a whole batch."""
        return False

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        """Write one line per event. Returns when the lines are written: a killed worker loses none that it has acked.

        If nobody reads standard output, it returns after a second; the lines wait in memory, or are lost and counted.
        """
        for event in events:
            parties = {"from": self._show(event.sender), "to": self._show(event.to)}
            log.info(
                "message.status",
                message_uuid=event.message_uuid,
                status=event.status,
                time=event.time.isoformat(),
                **parties,
                channel=event.channel,
            )
        await logs.wait_until_written()
