"""Verifies the sender of a webhook by its token or by its receipt's ``sig``. No I/O, and the clock is a parameter.

A valid token verifies any payload. Without one, a delivery receipt is verified by its ``sig``, even if the request has
an Authorization header: credentials in a callback URL are sent in it. Every other payload needs a token.
"""

from collections.abc import Sequence
from typing import Literal

from ingest.auth.jwt import TokenVerifier
from ingest.auth.proof import Proof, Unsigned, WrongSignature
from ingest.auth.receipts import ReceiptMethod, ReceiptVerifier
from ingest.auth.secrets import Secrets

AUTHORIZATION = "Authorization"


class Verifier:
    """Checks webhooks against a fixed map of accounts and their live secrets.

    ``header`` is the name of the token's header. In Authorization the token follows ``Bearer`` in any letter case, and
    other schemes are ignored; in another header the token may also have no scheme.
    """

    def __init__(
        self,
        secrets: Secrets,
        *,
        max_age_seconds: int,
        receipt_method: ReceiptMethod | Literal["off"] | None,
        header: str = AUTHORIZATION,
    ) -> None:
        self.secrets = secrets
        self._takes_bare_tokens = header.lower() != AUTHORIZATION.lower()
        self._tokens = TokenVerifier(secrets, max_age_seconds)
        self._receipts = ReceiptVerifier(secrets, receipt_method)

    def verify(self, values: Sequence[str], payload: bytes, now: int) -> Proof:
        """Verify the sender of this payload by the values of the token's header, or by its ``sig``.

        Raises only Unsigned and WrongSignature.
        """
        tokens = [token for value in values if (token := self._find_token(value)) is not None]
        refused: WrongSignature | Unsigned
        if len(tokens) == 1:
            try:
                return self._tokens.verify(tokens[0], payload, now)
            except WrongSignature as exc:
                refused = exc
        else:
            refused = WrongSignature("several") if tokens else Unsigned("unsigned")
        proof = self._receipts.verify(payload)
        if proof is None:
            raise refused
        return proof

    def _find_token(self, value: str) -> str | None:
        scheme, blank, token = value.partition(" ")
        if scheme.lower() == "bearer":
            return token.strip(" ")
        return value if self._takes_bare_tokens and value and not blank else None
