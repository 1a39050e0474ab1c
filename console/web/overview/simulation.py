"""Sends made-up webhooks to ingest, as the provider does, so that a new installation has something to show."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog

from console.simulate.plan import latest_start, plan
from console.simulate.sender import Sign, send
from console.simulate.signing import Signer
from console.web.settings import ConsoleSettings
from ingest.auth.secrets import parse_secrets
from runtime.errors import CommandError

log = structlog.get_logger("console.simulation")

MESSAGES = 500
RATE = 200.0
DUPLICATES = 0.1
CONNECTIONS = 8


class Simulation:
    """At most one run at a time, in the background."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._run: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start a run, unless one is running."""
        if self._run is None or self._run.done():
            self._run = asyncio.create_task(self._send(), name="simulation")

    async def stop(self) -> None:
        """End the run."""
        self._stop.set()
        if self._run is not None:
            await self._run

    async def _send(self) -> None:
        start = latest_start(MESSAGES, datetime.now(UTC))
        webhooks = plan(MESSAGES, secrets.randbelow(2**32), start=start, duplicates=DUPLICATES, shuffle=True)
        url = self._settings.ingest_url
        try:
            report = await send(
                webhooks,
                url,
                rate=RATE,
                connections=CONNECTIONS,
                sign=self._sign,
                stop=self._stop,
                progress=lambda _webhook: None,
            )
        except CommandError as exc:
            log.warning("simulation.failed", why=str(exc))
            return
        log.info("simulation.finished", sent=report.sent, accepted=report.accepted)

    @property
    def _sign(self) -> Sign | None:
        if self._settings.signature_secrets is None:
            return None
        return Signer(parse_secrets(self._settings.signature_secrets), self._settings.signature_header).sign


@asynccontextmanager
async def run_simulation(settings: ConsoleSettings) -> AsyncIterator[Simulation]:
    """Yield a simulation, which ends with the block."""
    simulation = Simulation(settings)
    try:
        yield simulation
    finally:
        await simulation.stop()
