"""Verifies the ``sig`` of delivery receipts of Vonage's SMS API, for accounts that sign them. No I/O.

https://developer.vonage.com/en/getting-started/concepts/signing-messages describes the five methods. An account uses
one of them. Only that one is accepted, because a forger would choose the weakest.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ingest.auth.proof import Proof, Unsigned, WrongSignature
from ingest.auth.secrets import Secrets
from stream.payload import RECEIPT_IDS, Fields, InvalidPayload, decode, is_receipt

ReceiptMethod = Literal["md5hash", "md5", "sha1", "sha256", "sha512"]

LONGEST_RECEIPT = 8192
MOST_FIELDS = 100
"""A receipt has fewer than 40 short fields. Larger payloads are not parsed, which limits the cost of a request."""

_NOT_SIGNED = "sig"
_ID_PARTS = (*(name.encode() for name in RECEIPT_IDS), b"\\", b"%")
_SEPARATORS = str.maketrans("&=", "__")


class Unsignable(ValueError):  # noqa: N818 - named for what it is
    """A field has a value for which the provider does not document the signed text."""


class Ambiguous(ValueError):  # noqa: N818 - named for what it is
    """A field's name could be read as several fields."""


class ReceiptVerifier:
    """Verifies receipts. ``method`` is the signature method, ``off`` to accept unsigned ones, or None if not set."""

    def __init__(self, secrets: Secrets, method: ReceiptMethod | Literal["off"] | None) -> None:
        self._secrets = secrets
        self._method = method

    def verify(self, payload: bytes) -> Proof | None:
        """Return the proof of a receipt's sender; None if the payload is not a receipt.

        Raises Unsigned and WrongSignature.
        """
        fields = _decode_receipt(payload)
        if fields is None:
            return None
        if self._method == "off":
            return Proof("none", None, None, "missing")
        if self._method is None:
            raise Unsigned("receipt")
        if _NOT_SIGNED not in fields:
            raise Unsigned("unsigned")
        return Proof("sig", self._find_signer(fields, self._method), None)

    def _find_signer(self, fields: Fields, method: ReceiptMethod) -> str | None:
        """Return the account whose secret signed this receipt; None if several accounts share that secret.

        The age of the signed ``timestamp`` is not checked: the provider documents no limit, and sends a receipt again
        for a day.
        """
        sent = fields[_NOT_SIGNED]
        try:
            signed = build_signed_text(fields)
        except Unsignable:
            raise Unsigned("unsignable") from None
        except Ambiguous:
            raise WrongSignature("malformed") from None
        if not isinstance(sent, str):
            raise WrongSignature("malformed")
        candidates = self._candidates(fields)
        signers = [
            account
            for account, secrets in candidates
            if _is_any_equal(sent.lower().encode(), [sign(method, secret, signed) for secret in secrets])
        ]
        if not signers:
            raise WrongSignature("signature", candidates[0][0] if len(candidates) == 1 else None)
        return signers[0] if len(signers) == 1 else None

    def _candidates(self, fields: Fields) -> list[tuple[str, tuple[bytes, ...]]]:
        """Return the account that the receipt names, or every account if it names none."""
        if "api-key" not in fields:
            return list(self._secrets.items())
        key = fields["api-key"]
        if not isinstance(key, str) or key not in self._secrets:
            raise WrongSignature("account")
        return [(key, self._secrets[key])]


def build_signed_text(fields: Mapping[str, Any]) -> bytes:
    """Return the signed text: ``&name=value`` for each field except ``sig``, sorted by name.

    A number is written in decimal, as in Vonage's own libraries. Raises Unsignable for other types of values. Raises
    Ambiguous if a name contains ``&`` or ``=``, because these are escaped only in values: such a name could be read as
    several fields.
    """
    if any("&" in name or "=" in name for name in fields):
        raise Ambiguous
    pairs = sorted((name, _text(value)) for name, value in fields.items() if name != _NOT_SIGNED)
    return "".join(f"&{name}={value}" for name, value in pairs).encode()


def sign(method: ReceiptMethod, secret: bytes, signed: bytes) -> bytes:
    """Return the signature in lower case; Vonage sends some in upper case."""
    if method == "md5hash":
        return hashlib.md5(signed + secret, usedforsecurity=False).hexdigest().encode()
    return hmac.digest(secret, signed, method).hex().encode()


def _decode_receipt(payload: bytes) -> Fields | None:
    if len(payload) > LONGEST_RECEIPT or payload.count(b"&") > MOST_FIELDS or not _may_name_id(payload):
        return None
    try:
        fields = decode(payload)
    except InvalidPayload:
        return None
    return fields if is_receipt(fields) else None


def _may_name_id(payload: bytes) -> bool:
    """Whether the payload may contain the id field of a receipt, in plain text or escaped."""
    return any(part in payload for part in _ID_PARTS)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value.translate(_SEPARATORS)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Unsignable


def _is_any_equal(sent: bytes, expected: Sequence[bytes]) -> bool:
    """Whether one of these is equal, in constant time."""
    return any([hmac.compare_digest(sent, digest) for digest in expected])  # noqa: C419 - compare all of them
