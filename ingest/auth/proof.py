"""What a check of a signature gives: a proof, or the reason why there is none and what to do about it."""

from dataclasses import dataclass
from typing import Literal

from stream.entry import Verified

Reason = Literal[
    "unsigned",
    "receipt",
    "unsignable",
    "several",
    "malformed",
    "algorithm",
    "header",
    "account",
    "signature",
    "claims",
    "age",
    "payload",
]

_STRANGER = "find out who calls: the provider sends no such token"
_ACCEPT = "then run `ackstream quarantine accept --all`"

NEXT_STEPS: dict[Reason, str] = {
    "unsigned": "switch on signed webhooks for the account in the provider's dashboard; it is sent again",
    "receipt": "set ACKSTREAM_DLR_SIGNATURE to the account's method, or to off; it is sent again",
    "unsignable": "let the account send receipts as GET or form, or set ACKSTREAM_DLR_SIGNATURE=off: the sig of JSON "
    "with null, true, false, lists or objects cannot be checked",
    "several": "look at the proxy in front: a request has more than one token",
    "malformed": _STRANGER,
    "algorithm": _STRANGER,
    "header": _STRANGER,
    "account": "add the secret of this account to ACKSTREAM_SIGNATURE_SECRETS, if the account is yours",
    "signature": "compare ACKSTREAM_SIGNATURE_SECRETS (for receipts also ACKSTREAM_DLR_SIGNATURE) with the provider's "
    f"dashboard, {_ACCEPT}",
    "claims": "report it: a token is rightly signed, but its claims are not as documented",
    "age": f"check this machine's clock, or raise ACKSTREAM_SIGNATURE_MAX_AGE_SECONDS, {_ACCEPT}",
    "payload": "look at the proxy in front: it changes the body, which must arrive byte by byte as it was sent",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What the signature proves of the sender; ``none`` for a receipt that need not be signed.

    ``signature`` is what an entry's field of this name is: why nothing is proved, although signatures are checked.
    """

    verified: Verified
    account: str | None
    application: str | None
    signature: Literal["missing", "wrong"] | None = None


UNPROVED = Proof("none", None, None)


class SignatureRefused(Exception):  # noqa: N818 - named for what becomes of the request
    """Nothing is proved: ``reason`` is one word of a few, and NEXT_STEPS has what the operator can do.

    ``account`` is the account that the token or receipt names, if it is a configured one. Nothing else of the request
    is kept.
    """

    def __init__(self, reason: Reason, account: str | None = None) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.account = account


class Unsigned(SignatureRefused):
    """There is no signature that can be checked. Such a webhook is always answered 5xx, so that it is sent again.

    The provider sends one on a fault of its own, and signs it the next time.
    """


class WrongSignature(SignatureRefused):
    """There is a signature, and it proves nothing."""
