"""The ``sig`` parameter with which Vonage's SMS API signs delivery receipts, where the account asks for it. No I/O.

https://developer.vonage.com/en/getting-started/concepts/signing-messages gives the five methods. The account has one of
them; accepting whichever fits would let a forger choose the weakest.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Literal

ReceiptMethod = Literal["md5hash", "md5", "sha1", "sha256", "sha512"]

_NOT_SIGNED = "sig"
_SEPARATORS = str.maketrans("&=", "__")


class Unsignable(ValueError):  # noqa: N818 - named for what it is
    """These fields are not of a kind that this signature can be made for."""


def signed_text(fields: Mapping[str, Any]) -> bytes:
    """Return what is signed: ``&name=value`` for each field but ``sig``, sorted by name.

    A number counts as its decimal text, as in Vonage's own libraries. Raises Unsignable for other values, and for a
    name with ``&`` or ``=`` in it: only in values are these replaced, so such a name could pass for several fields.
    """
    pairs = sorted((name, _text(value)) for name, value in fields.items() if name != _NOT_SIGNED)
    if any("&" in name or "=" in name for name, _ in pairs):
        raise Unsignable
    return "".join(f"&{name}={value}" for name, value in pairs).encode()


def signature(method: ReceiptMethod, secret: bytes, signed: bytes) -> bytes:
    """Return the signature of this text, in lower case; Vonage sends some in upper case."""
    if method == "md5hash":
        return hashlib.md5(signed + secret, usedforsecurity=False).hexdigest().encode()
    return hmac.digest(secret, signed, method).hex().encode()


def _text(value: object) -> str:
    if isinstance(value, str):
        return value.translate(_SEPARATORS)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Unsignable
