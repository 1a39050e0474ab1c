"""Applies the operator's mode (required, observe or off) to the result of a signature check, and counts the results.

The verifier does not know the mode, and the HTTP side does not know the rules.
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
    """Checks webhooks. ``now`` returns seconds since 1970 UTC. Without ``verifier`` signatures are off.

    ``header`` is the name of the header whose values ``check`` gets.
    """

    def __init__(self, mode: Mode, verifier: Verifier | None, now: Callable[[], float], header: str) -> None:
        self.header = header
        self._observing = mode == "observe"
        self._verifier = verifier
        self._now = now

    def use(self, verifier: Verifier | None) -> None:
        """Use this verifier from now on."""
        self._verifier = verifier

    def check(self, values: Sequence[str], payload: bytes) -> Proof:
        """Return the verified sender. It is unverified in mode off, and for an invalid signature in mode observe.

        ``values`` are those of all headers named ``header``. Raises Unsigned, which is always answered 5xx, and
        WrongSignature, which is answered ACKSTREAM_WRONG_SIGNATURE. Both carry a reason for the log.
        """
        if self._verifier is None:
            return UNPROVED
        try:
            proof = self._verifier.verify(values, payload, int(self._now()))
        except (Unsigned, WrongSignature) as exc:
            is_unsigned = isinstance(exc, Unsigned)
            SIGNATURES.count((exc.reason if is_unsigned else f"wrong: {exc.reason}",))
            if self._observing:
                return Proof("none", None, None, "missing" if is_unsigned else "wrong")
            raise
        return proof


def count_verified(proof: Proof) -> None:
    """Count a stored webhook right before its answer, so that the counts of any moment are of the same webhooks."""
    if proof.verified != "none":
        ACCOUNTS.count((proof.verified, proof.account or "", proof.application or ""))


@asynccontextmanager
async def open_authentication(settings: SignatureSettings) -> AsyncIterator[Authentication]:
    """Yield an Authentication; while the block runs, SIGHUP reloads the secrets.

    Only the secrets are reloaded, from their file or from .env. If they are invalid, an error is logged and the
    previous secrets stay in use. Raises InvalidSettings if the secrets are invalid at the start.
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
            log.error(  # noqa: TRY400 - the text is enough
                "authentication.secrets_not_read", why=str(exc), what="the previous secrets stay in use"
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
