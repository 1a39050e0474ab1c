"""Sign made-up webhooks in the way of the provider.

https://developer.vonage.com/en/getting-started/concepts/webhooks#signed-webhooks

Messages have a JWT (HS256, with the payload's hash). Delivery receipts of the SMS API have the older ``sig`` parameter.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from uuid import uuid4

import orjson

from ingest.auth.receipts import ReceiptMethod, build_signed_text, sign
from ingest.auth.secrets import Secrets

APPLICATION = "11111111-2222-4333-8444-555555555555"
"""A made-up application id for all webhooks."""


class Signer:
    """Signs with the first live secret of an account; the payload's hash selects the account.

    ``header`` is the name of the header for the token.
    """

    def __init__(self, secrets: Secrets, header: str) -> None:
        self._accounts = [(account, live[0]) for account, live in secrets.items()]
        self._header = header

    def sign(self, payload: bytes, now: float) -> dict[str, str]:
        """Return the headers with the signature of this payload. ``now`` is in seconds since 1970 UTC."""
        digest = hashlib.sha256(payload)
        account, secret = self._accounts[digest.digest()[0] % len(self._accounts)]
        claims = {
            "iat": int(now),
            "jti": str(uuid4()),
            "iss": "Vonage",
            "payload_hash": digest.hexdigest(),
            "api_key": account,
            "application_id": APPLICATION,
        }
        signed = b".".join(_encode(orjson.dumps(part)) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        token = signed + b"." + _encode(hmac.digest(secret, signed, "sha256"))
        return {self._header: f"Bearer {token.decode()}"}


class ReceiptSigner:
    """Signs delivery receipts with the secret of the first account, by this method."""

    def __init__(self, secrets: Secrets, method: ReceiptMethod) -> None:
        self._account, live = next(iter(secrets.items()))
        self._secret = live[0]
        self._method = method

    def sign(self, fields: Mapping[str, str]) -> dict[str, str]:
        """Return the fields with the account's key and ``sig``."""
        fields_with_key = {**fields, "api-key": self._account}
        return {
            **fields_with_key,
            "sig": sign(self._method, self._secret, build_signed_text(fields_with_key)).decode(),
        }


def _encode(part: bytes) -> bytes:
    return urlsafe_b64encode(part).rstrip(b"=")
