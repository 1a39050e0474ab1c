"""Signed webhooks: a JSON Web Token that holds the payload's hash, signed with the account's secret. No I/O.

https://developer.vonage.com/en/getting-started/concepts/webhooks#signed-webhooks

The verifier accepts only tokens as the provider writes them: HS256, no header except ``alg`` and ``typ``, one canonical
encoding, and the hash of the payload's bytes. So a token cannot make the server fetch or open anything, no token has a
second valid form, and a token is valid for one payload only. The libraries take three to seven times as long, which
would slow each request, so this is our own code; the tests compare it with PyJWT and with the provider's own libraries.
"""

import hashlib
import hmac
import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson

from ingest.auth.proof import Proof, Reason, WrongSignature
from ingest.auth.secrets import Secrets

LONGEST_TOKEN = 8192
FUTURE_LEEWAY_SECONDS = 60
BLOCK_BYTES = 64
ISSUER = "Vonage"

_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/!!!")  # ! is invalid in base64, so the last three are rejected
_FROM_BASE64 = bytes.maketrans(b"+/", b"-_")
_PADDING = (b"", b"===", b"==", b"=")
_LAST_CHARACTERS = (
    b"",
    b"",
    b"AQgw",
    b"AEIMQUYcgkosw048",
)  # by length modulo 4: last characters whose unused bits are 0
_CACHED_HEADERS = 64
_CACHED_SENDERS = 1024

_TEXT = (str, type(None))


class _Key:
    """HMAC-SHA256 with one secret (RFC 2104). The part that depends only on the secret is precomputed."""

    def __init__(self, secret: bytes) -> None:
        block = (hashlib.sha256(secret).digest() if len(secret) > BLOCK_BYTES else secret).ljust(BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def sign(self, signed: bytes) -> bytes:
        """Return the signature of these bytes."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(signed)
        outer.update(inner.digest())
        return outer.digest()


class TokenVerifier:
    """Checks tokens against a fixed map of accounts and their live secrets.

    A token is valid for ``max_age_seconds``. This must be longer than the provider's retries, because its documents do
    not say whether it signs a retry again. A repeated ``jti`` is a retry, not an error.
    """

    def __init__(self, secrets: Secrets, max_age_seconds: int) -> None:
        self._keys = {account: [_Key(secret) for secret in live] for account, live in secrets.items()}
        self._max_age_seconds = max_age_seconds

    def verify(self, token: str, payload: bytes, now: int) -> Proof:
        """Verify the sender of this payload. Raises only WrongSignature."""
        account, claims = self._authentic_claims(token)
        self._check(account, claims, now)
        if hashlib.sha256(payload).hexdigest() != claims["payload_hash"].lower():  # neither is a secret
            raise WrongSignature("payload", account)
        return _make_proof(account, claims.get("application_id"))

    def _authentic_claims(self, token: str) -> tuple[str, dict[str, Any]]:
        """Return the account and its signed claims. Before the signature is verified, only ``api_key`` is read."""
        if len(token) > LONGEST_TOKEN:
            raise WrongSignature("malformed")
        try:
            signed, _, signature = token.encode("ascii").rpartition(b".")
            header, _, body = signed.partition(b".")
            fault = _header_fault(header)
            claims = orjson.loads(_from_base64url(body))
        except ValueError:
            raise WrongSignature("malformed") from None
        if fault is not None:
            raise WrongSignature(fault)
        account = claims.get("api_key") if isinstance(claims, dict) else None
        if not isinstance(account, str) or account not in self._keys:
            raise WrongSignature("account")
        is_right = False
        for key in self._keys[account]:  # compare all, so that the time does not reveal the matching key
            is_right |= hmac.compare_digest(signature, _to_base64url(key.sign(signed)))
        if not is_right:
            raise WrongSignature("signature", account)
        return account, claims

    def _check(self, account: str, claims: Mapping[str, Any], now: int) -> None:
        issued_at = claims.get("iat")
        if (
            type(issued_at) is not int  # a bool is an int to isinstance
            or claims.get("iss") != ISSUER
            or not isinstance(claims.get("payload_hash"), str)
            or not isinstance(claims.get("jti", ""), _TEXT)
            or not isinstance(claims.get("application_id", ""), _TEXT)
        ):
            raise WrongSignature("claims", account)
        if not -FUTURE_LEEWAY_SECONDS <= now - issued_at <= self._max_age_seconds:
            raise WrongSignature("age", account)


@lru_cache(maxsize=_CACHED_SENDERS)
def _make_proof(account: str, application: str | None) -> Proof:
    return Proof("jwt", account, application or None)


@lru_cache(maxsize=_CACHED_HEADERS)
def _header_fault(segment: bytes) -> Reason | None:
    """Return the fault of a token's header, or None. Nearly all headers are the same bytes, so the result is cached."""
    try:
        pairs = json.loads(_from_base64url(segment).decode(), object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return "malformed"
    header = dict(pairs) if isinstance(pairs, tuple) else {}  # the hook turns objects into tuples; arrays stay lists
    if not header or len(header) < len(pairs):
        return "malformed"
    if header.pop("alg", None) != "HS256":
        return "algorithm"
    return None if header in ({}, {"typ": "JWT"}) else "header"


def _from_base64url(segment: bytes) -> bytes:
    """Decode base64url without padding. Raises ValueError unless the segment is the canonical encoding."""
    if not segment.isalnum():
        segment = segment.translate(_TO_BASE64)
    if remainder := len(segment) % 4:
        if segment[-1] not in _LAST_CHARACTERS[remainder]:
            raise ValueError
        segment += _PADDING[remainder]
    return a2b_base64(segment, strict_mode=True)


def _to_base64url(digest: bytes) -> bytes:
    return b2a_base64(digest, newline=False).translate(_FROM_BASE64, b"=")
