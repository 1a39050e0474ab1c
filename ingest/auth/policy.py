"""What a webhook's signature proves, and what the operator's mode makes of one that proves nothing.

The verifier knows no mode, and the HTTP side knows no rule. Everything is counted here.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import structlog

from ingest.auth.proof import UNPROVED, Proof, Unsigned, WrongSignature
from ingest.auth.secrets import describe_secrets
from ingest.auth.settings import Mode, SignatureSettings
from ingest.auth.verifier import Verifier
from ingest.metrics import ACCOUNTS, SIGNATURES
from stream.settings import InvalidSettings

log = structlog.get_logger("authentication")


class Authentication:
    """Checks webhooks. ``now`` gives seconds since 1970 UTC; ``verifier`` is None while signatures are off.

    ``header`` names the header whose values ``check`` takes.
    """

    def __init__(self, mode: Mode, verifier: Verifier | None, now: Callable[[], float], header: str) -> None:
        self.header = header
        self._observing = mode == "observe"
        self._verifier = verifier
        self._now = now

    def use(self, verifier: Verifier | None) -> None:
        """Check by other secrets from now on."""
        self._verifier = verifier

    def check(self, values: Sequence[str], payload: bytes) -> Proof:
        """Return what is proved: nothing while signatures are off, nor while observing what is unsigned or wrong.

        ``values`` are those of all headers named ``header``. Raises Unsigned, which is always answered 5xx, and
        WrongSignature, which is answered ACKSTREAM_WRONG_SIGNATURE; both have a reason for the log.
        """
        if self._verifier is None:
            return UNPROVED
        try:
            proof = self._verifier.verify(values, payload, int(self._now()))
        except (Unsigned, WrongSignature) as exc:
            is_unsigned = isinstance(exc, Unsigned)
            SIGNATURES.count(exc.reason if is_unsigned else f"wrong: {exc.reason}")
            if self._observing:
                return Proof("none", None, None, "missing" if is_unsigned else "wrong")
            raise
        ACCOUNTS.count(proof.verified, proof.account or "", proof.application or "")
        return proof


@asynccontextmanager
async def open_authentication(settings: SignatureSettings) -> AsyncIterator[Authentication]:
    """Yield what checks webhooks; while the block runs, SIGHUP makes it read the secrets again.

    Only the secrets are read, from their file or from .env. If they are wrong then, that is logged and the previous
    ones stay in force. Raises InvalidSettings if they are wrong at first.
    """
    current = settings.verifier
    authentication = Authentication(settings.signatures, current, time.time, settings.signature_header)

    def reload() -> None:
        nonlocal current
        if settings.has_fixed_secrets:
            log.warning(
                "authentication.secrets_fixed",
                meaning="ACKSTREAM_SIGNATURE_SECRETS is an environment variable, which cannot change in a process",
                what="restart; to change secrets without a restart, set ACKSTREAM_SIGNATURE_SECRETS_FILE",
            )
            return
        try:
            verifier = settings.with_new_secrets().verifier
        except InvalidSettings as exc:
            log.error(  # noqa: TRY400 - the text says all
                "authentication.secrets_not_read", why=str(exc), what="the previous ones stay in force"
            )
            return
        is_same = verifier is None or (current is not None and verifier.secrets == current.secrets)
        current = verifier
        authentication.use(verifier)
        log.info(
            "authentication.secrets_read",
            secrets="signatures are off" if verifier is None else describe_secrets(verifier.secrets),
            result="unchanged" if is_same else "changed",
        )

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield authentication
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
