"""What a webhook's signature proves, and what the owner's mode makes of one that proves nothing.

Who checks (``ingest.signature``) knows no mode, and who answers (``ingest.webhook``) knows no rule. Everything is
counted here.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import structlog

from ingest.auth.jwt import Proof, Unsigned, Verifier, WrongSignature
from ingest.settings import IngestSettings, Mode
from runtime.metrics import ACCOUNTS, SIGNATURES
from stream.settings import InvalidSettings

log = structlog.get_logger("authentication")

UNPROVED = Proof("none", None, None)
"""So many pairs of account and application have a counter of their own; what comes after shares one, ``other``."""


class Authentication:
    """Checks webhooks. ``now`` gives seconds since 1970 UTC; ``verifier`` is None while signatures are off."""

    def __init__(self, mode: Mode, verifier: Verifier | None, now: Callable[[], float]) -> None:
        self._observing = mode == "observe"
        self._verifier = verifier
        self._now = now

    def use(self, verifier: Verifier | None) -> None:
        """Check by other secrets from now on."""
        self._verifier = verifier

    def check(self, authorizations: Sequence[str], payload: bytes) -> Proof:
        """Return what is proved: nothing while signatures are off, nor while observing what is unsigned or wrong.

        ``authorizations`` are the values of all Authorization headers. Raises Unsigned and WrongSignature.
        """
        if self._verifier is None:
            return UNPROVED
        try:
            proof = self._verifier.verify(authorizations, payload, int(self._now()))
        except (Unsigned, WrongSignature) as exc:
            SIGNATURES.labels("unsigned" if isinstance(exc, Unsigned) else f"wrong: {exc.reason}").inc()
            if self._observing:
                return Proof("none", None, None, "missing" if isinstance(exc, Unsigned) else "wrong")
            raise
        ACCOUNTS.count(proof.verified, proof.account or "", proof.application or "")
        return proof


@asynccontextmanager
async def authenticating(settings: IngestSettings) -> AsyncIterator[Authentication]:
    """Yield what checks webhooks; while the block runs, SIGHUP makes it read the secrets again.

    If they are wrong then, that is told and those before stay in force. Raises InvalidSettings if they are at first.
    """
    authentication = Authentication(settings.signatures, settings.verifier, time.time)

    def reload() -> None:
        try:
            authentication.use(settings.read_again().verifier)
        except InvalidSettings as exc:
            log.error(  # noqa: TRY400 - the text says all
                "authentication.secrets_not_read", why=str(exc), what="those before stay in force"
            )
        else:
            log.info("authentication.secrets_read")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield authentication
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
