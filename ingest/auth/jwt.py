"""Who sent a webhook: its signature checked. No I/O, and the clock is a parameter.

* Messages API and Dispatch: ``Authorization: Bearer <JWT>``, signed with the account's secret and holding the payload's
  hash, https://developer.vonage.com/en/getting-started/concepts/webhooks#signed-webhooks
* SMS API delivery receipts: the older ``sig`` parameter, see ingest.receipt_signature

Only what the provider sends is taken, to the letter: HS256, no header but ``alg`` and ``typ``, one way of writing a
token. So nothing that a token says is ever fetched or opened, and no token has a second form that is also right.
This is own code because the libraries take three to seven times as long, which a request would feel; the tests hold it
to PyJWT and to the provider's own libraries.
"""

import hashlib
import hmac
import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import orjson

from ingest.auth import receipts as receipt_signature
from ingest.auth.receipts import ReceiptMethod, Unsignable
from runtime.errors import WrongValue
from stream.entry import Verified
from stream.payload import Fields, InvalidPayload, decode, is_receipt

LONGEST_AUTHORIZATION = 8192
FUTURE_LEEWAY_SECONDS = 60
BLOCK_BYTES = 64
ISSUER = "Vonage"

_SCHEME = "Bearer "  # by RFC 9110 a scheme may be in any case; the provider writes it so, and one form is enough
_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/!!!")  # a ! is no base64, so what becomes one is refused
_FROM_BASE64 = bytes.maketrans(b"+/", b"-_")
_PADDING = (b"", b"===", b"==", b"=")
_LAST_CHARACTERS = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")  # by the length: those whose unused bits are 0
_HEADERS_KEPT = 64
_SENDERS_KEPT = 1024

_TEXT = (str, type(None))

Secrets = Mapping[str, tuple[bytes, ...]]
Reason = Literal["scheme", "malformed", "algorithm", "header", "account", "signature", "claims", "age", "payload"]


class Unsigned(Exception):  # noqa: N818 - named for what it is
    """There is no signature. The provider sends such a webhook on a fault of its own, and signs it the next time."""


class WrongSignature(Exception):  # noqa: N818 - named for what it is
    """There is a signature, and it proves nothing. ``reason`` is one of a few words; nothing of the request is kept."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"wrong signature: {reason}")
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class Proof:
    """What the signature proves of the sender; ``none`` for a receipt that need not be signed.

    ``signature`` is what an entry's field of this name is: why nothing is proved, although signatures are checked.
    """

    verified: Verified
    account: str | None
    application: str | None
    signature: Literal["missing", "wrong"] | None = None


class _Key:
    """HMAC-SHA256 by one secret (RFC 2104), with all that hangs on the secret alone done before: half the time."""

    def __init__(self, secret: bytes) -> None:
        block = (hashlib.sha256(secret).digest() if len(secret) > BLOCK_BYTES else secret).ljust(BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def sign(self, signed: bytes) -> bytes:
        """Return the signature of this text."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(signed)
        outer.update(inner.digest())
        return outer.digest()


class Verifier:
    """Checks webhooks against a fixed map of accounts and their live secrets (several while one is changed).

    A token is good for ``max_age_seconds``: whether the provider signs anew when it sends again is not documented, so
    this has to be longer than it keeps trying. A repeated ``jti`` is a webhook sent again, so it is no fault.
    ``receipt_method`` is how delivery receipts are signed, ``off`` to take them unsigned; if it is None a receipt is
    unsigned like any other payload.
    """

    def __init__(
        self, secrets: Secrets, *, max_age_seconds: int, receipt_method: ReceiptMethod | Literal["off"] | None
    ) -> None:
        self._secrets = dict(secrets)
        self._keys = {account: [_Key(secret) for secret in live] for account, live in secrets.items()}
        self._max_age_seconds = max_age_seconds
        self._receipt_method = receipt_method

    def verify(self, authorizations: Sequence[str], payload: bytes, now: int) -> Proof:
        """Prove the sender of this payload by the values of its Authorization headers, or by its ``sig``.

        Raises Unsigned or WrongSignature, and nothing else. With an Authorization, nothing but that counts.
        """
        if not authorizations:
            return self._without_token(payload)
        if len(authorizations) > 1:
            raise WrongSignature("scheme")
        account, claims = self._authentic_claims(authorizations[0])
        self._check(claims, now)
        if not _is_hash_of(claims["payload_hash"], payload):
            raise WrongSignature("payload")
        return _proved(account, claims.get("application_id"))

    def _authentic_claims(self, authorization: str) -> tuple[str, dict[str, Any]]:
        """Return the account and what it signed. Until the signature is right, ``api_key`` is all that is looked at."""
        if not authorization.startswith(_SCHEME):
            raise WrongSignature("scheme")
        if len(authorization) > LONGEST_AUTHORIZATION:
            raise WrongSignature("malformed")
        try:
            signed, _, signature = authorization[len(_SCHEME) :].encode("ascii").rpartition(b".")
            header, _, body = signed.partition(b".")
            fault = _header_fault(header)
            claims = orjson.loads(_from_base64url(body))
        except ValueError:
            raise WrongSignature("malformed") from None
        if fault is not None:
            raise WrongSignature(fault)
        account = claims.get("api_key") if isinstance(claims, dict) else None
        if not isinstance(account, str) or account not in self._secrets:
            raise WrongSignature("account")
        is_right = False
        for key in self._keys[account]:  # all of them: the time that it takes does not tell which one it was
            is_right |= hmac.compare_digest(signature, _to_base64url(key.sign(signed)))
        if not is_right:
            raise WrongSignature("signature")
        return account, claims

    def _check(self, claims: Fields, now: int) -> None:
        issued = claims.get("iat")
        if (
            type(issued) is not int  # a bool is an int to isinstance
            or claims.get("iss") != ISSUER
            or not isinstance(claims.get("payload_hash"), str)
            or not isinstance(claims.get("jti", ""), _TEXT)
            or not isinstance(claims.get("application_id", ""), _TEXT)
        ):
            raise WrongSignature("claims")
        if not -FUTURE_LEEWAY_SECONDS <= now - issued <= self._max_age_seconds:
            raise WrongSignature("age")

    def _without_token(self, payload: bytes) -> Proof:
        if self._receipt_method is None:
            raise Unsigned
        try:
            fields = decode(payload)
        except InvalidPayload:
            raise Unsigned from None
        if not is_receipt(fields):
            raise Unsigned  # whatever a message's body says in a field named sig, no one signed it
        if self._receipt_method == "off":
            return Proof("none", None, None, "missing")
        if "sig" not in fields:
            raise Unsigned
        return Proof("sig", self._signer(fields, self._receipt_method), None)

    def _signer(self, fields: Fields, method: ReceiptMethod) -> str | None:
        """Return the account whose secret signed this receipt; None if several accounts share that secret.

        The signed ``timestamp`` is no reason to refuse: no document gives it a limit, and the provider tries again for
        a day.
        """
        given = fields["sig"]
        try:
            signed = receipt_signature.signed_text(fields)
        except Unsignable:
            raise WrongSignature("malformed") from None
        if not isinstance(given, str):
            raise WrongSignature("malformed")
        signers = [
            account
            for account, secrets in self._candidates(fields)
            if _one_is_equal(
                given.lower().encode(), [receipt_signature.signature(method, secret, signed) for secret in secrets]
            )
        ]
        if not signers:
            raise WrongSignature("signature")
        return signers[0] if len(signers) == 1 else None

    def _candidates(self, fields: Fields) -> list[tuple[str, tuple[bytes, ...]]]:
        """Return the account that the receipt names, or every account if it names none."""
        named = "api-key" in fields
        found = [(key, secrets) for key, secrets in self._secrets.items() if not named or key == fields["api-key"]]
        if not found:
            raise WrongSignature("account")
        return found


def parse_secrets(text: str) -> dict[str, tuple[bytes, ...]]:
    """Take ``api_key:secret`` items, separated by commas or lines. A key may come several times: all are live.

    A line that starts with # is a comment. Raises ValueError, which tells an item by its number and has nothing of it
    in its text.
    """
    secrets: dict[str, tuple[bytes, ...]] = {}
    lines = [line for line in text.removeprefix("\ufeff").split("\n") if not line.lstrip().startswith("#")]
    items = [stripped for item in ",".join(lines).split(",") if (stripped := item.strip())]
    for number, item in enumerate(items, start=1):
        key, _, secret = (part.strip() for part in item.partition(":"))
        if not key or not secret:
            raise WrongValue(f"item {number} is not written api_key:secret")
        try:
            known, new = secrets.get(key, ()), secret.encode()
        except UnicodeEncodeError:
            raise WrongValue(f"item {number} is not UTF-8") from None  # the cause holds the secret
        secrets[key] = known if new in known else (*known, new)
    if not secrets:
        raise WrongValue("there is no item; one is written api_key:secret")
    return secrets


@lru_cache(maxsize=_SENDERS_KEPT)
def _proved(account: str, application: str | None) -> Proof:
    return Proof("jwt", account, application or None)


@lru_cache(maxsize=_HEADERS_KEPT)
def _header_fault(segment: bytes) -> Reason | None:
    """Tell what is wrong with a token's header. Nearly all are the same bytes, so the answer is kept."""
    try:
        pairs = json.loads(_from_base64url(segment).decode(), object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return "malformed"
    header = dict(pairs) if isinstance(pairs, tuple) else {}  # a tuple was an object, a list was an array
    if not header or len(header) < len(pairs):
        return "malformed"
    if header.pop("alg", None) != "HS256":
        return "algorithm"
    return None if header in ({}, {"typ": "JWT"}) else "header"


def _from_base64url(segment: bytes) -> bytes:
    """Decode what has no padding. Raises ValueError for what encoding would not give: there is one way to write it."""
    if not segment.isalnum():
        segment = segment.translate(_TO_BASE64)
    if beyond := len(segment) % 4:
        if segment[-1] not in _LAST_CHARACTERS[beyond]:
            raise ValueError
        segment += _PADDING[beyond]
    return a2b_base64(segment, strict_mode=True)


def _to_base64url(digest: bytes) -> bytes:
    return b2a_base64(digest, newline=False).translate(_FROM_BASE64, b"=")


def _one_is_equal(given: bytes, expected: Sequence[bytes]) -> bool:
    """Whether one of these is the same; the time taken does not tell which one, nor how much of it."""
    return any([hmac.compare_digest(given, one) for one in expected])  # noqa: C419 - all are compared


def _is_hash_of(claimed: str, payload: bytes) -> bool:
    """Whether this is the payload's sha256: of its bytes, or else of its JSON written without blanks.

    The provider's documents tell both. The second is tried only where writing it so makes it shorter.
    """
    expected = claimed.lower().encode()
    if hmac.compare_digest(hashlib.sha256(payload).hexdigest().encode(), expected):
        return True
    try:
        compact = orjson.dumps(orjson.loads(payload))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return False
    return len(compact) < len(payload) and hmac.compare_digest(hashlib.sha256(compact).hexdigest().encode(), expected)
