"""The result of a signature check: a proof, or a reason for its absence and the operator's next step."""

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

_STRANGER = "identify the client: the provider does not send such tokens"
_ACCEPT = "then run `ackstream quarantine accept --all`"

NEXT_STEPS: dict[Reason, str] = {
    "unsigned": "switch on signed webhooks for the account in the provider's dashboard; the provider sends it again",
    "receipt": "set ACKSTREAM_DLR_SIGNATURE to the account's method, or to off; the provider sends it again",
    "unsignable": "switch the account's receipts to GET or form, or set ACKSTREAM_DLR_SIGNATURE=off: the sig of JSON "
    "with null, true, false, lists or objects cannot be checked",
    "several": "check the proxy in front: a request has more than one token",
    "malformed": _STRANGER,
    "algorithm": _STRANGER,
    "header": _STRANGER,
    "account": "add the secret of this account to ACKSTREAM_SIGNATURE_SECRETS, if the account is yours",
    "signature": "compare ACKSTREAM_SIGNATURE_SECRETS (for receipts also ACKSTREAM_DLR_SIGNATURE) with the provider's "
    f"dashboard, {_ACCEPT}",
    "claims": "report it: the signature of a token is valid, but its claims are not as documented",
    "age": f"check this machine's clock, or raise ACKSTREAM_SIGNATURE_MAX_AGE_SECONDS, {_ACCEPT}",
    "payload": "check the proxy in front: it changes the body, which must arrive exactly as the provider sent it",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """The verified sender of a webhook. ``verified`` is ``none`` for a receipt that does not have to be signed.

    ``signature`` is the entry's field of this name: the reason for ``none`` while signatures are checked.
    """

    verified: Verified
    account: str | None
    application: str | None
    signature: Literal["missing", "wrong"] | None = None


UNPROVED = Proof("none", None, None)


class SignatureRefused(Exception):  # noqa: N818 - named for what becomes of the request
    """The sender is not verified. ``reason`` is one of `Reason`; NEXT_STEPS has the operator's next step for it.

    ``account`` is the account in the token or receipt, if it is a configured one. The error holds nothing else of the
    request.
    """

    def __init__(self, reason: Reason, account: str | None = None) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.account = account


class Unsigned(SignatureRefused):
    """The webhook has no signature that can be checked. It is always answered 5xx, so that the provider sends it again.

    The provider sometimes sends an unsigned webhook by mistake, and signs it the next time.
    """


class WrongSignature(SignatureRefused):
    """The webhook has an invalid signature."""
