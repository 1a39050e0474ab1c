"""Settings of signatures and of the quarantine."""

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field
from pydantic_settings import NoDecode

from ingest.auth.receipts import ReceiptMethod
from ingest.auth.secrets import Secrets, parse_secrets
from ingest.auth.verifier import AUTHORIZATION, Verifier
from stream.settings import InvalidSettings, StreamSettings

Mode = Literal["required", "observe", "off"]


def _secrets(value: str | None) -> str | None:
    if value is not None:
        parse_secrets(value)
    return value


def _header(value: str) -> str:
    if re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value) is None:  # RFC 9110, token
        raise ValueError
    return value


SignatureSecrets = Annotated[str | None, NoDecode, AfterValidator(_secrets)]


class _ReloadedSettings(StreamSettings):
    """Settings that SIGHUP reloads."""

    secrets: ClassVar[frozenset[str]] = StreamSettings.secrets | {"signature_secrets"}

    signature_secrets: SignatureSecrets = None


class SignatureSettings(_ReloadedSettings):
    """Settings of signatures and of the quarantine."""

    signatures: Mode = Field("required", description="required, observe or off")
    signature_secrets: SignatureSecrets = Field(
        None,
        description="api_key:secret, comma separated or one per line; a key may appear twice during a rotation",
    )
    signature_max_age_seconds: int = Field(
        90_000, ge=60, le=31_536_000, description="seconds since a signature was made, 60 to 31536000"
    )
    signature_header: Annotated[str, AfterValidator(_header)] = Field(
        AUTHORIZATION,
        description="the name of the header with the token, for a gateway that uses Authorization itself",
    )
    wrong_signature: Literal["401", "503"] = Field(
        "503", description="503, after which the provider sends it again, or 401, after which it drops the status"
    )
    dlr_signature: ReceiptMethod | Literal["off"] | None = Field(
        None, description="md5hash, md5, sha1, sha256 or sha512, or off to accept unsigned delivery receipts"
    )
    quarantine_entries: int = Field(1000, ge=0, le=100_000, description="refused payloads kept, 0 to 100000")
    quarantine_bytes: int = Field(
        32 * 1024 * 1024, ge=0, le=2**30, description="total bytes of refused payloads kept, 0 to 1073741824"
    )

    @property
    def verifier(self) -> Verifier | None:
        """The verifier; None while signatures are off. Raises InvalidSettings if the secrets are missing."""
        if self.signatures == "off":
            return None
        if self.signatures == "required" and self.signature_secrets is None:
            raise InvalidSettings(
                "ACKSTREAM_SIGNATURES is 'required', but no secret is set: set "
                "ACKSTREAM_SIGNATURE_SECRETS=api_key:secret (the account's signature secret in the provider's "
                "dashboard), or ACKSTREAM_SIGNATURE_SECRETS_FILE, or ACKSTREAM_SIGNATURES=observe or off"
            )
        secrets: Secrets = parse_secrets(self.signature_secrets) if self.signature_secrets else {}
        return Verifier(
            secrets,
            max_age_seconds=self.signature_max_age_seconds,
            receipt_method=self.dlr_signature,
            header=self.signature_header,
        )

    @property
    def has_fixed_secrets(self) -> bool:
        """Whether the secrets come from an environment variable, which cannot change while the process runs."""
        return bool(self.read_variable("signature_secrets"))

    def with_new_secrets(self) -> Self:
        """Return these settings with the current secrets of their file or .env. Raises InvalidSettings."""
        return self.model_copy(update={"signature_secrets": _ReloadedSettings.load().signature_secrets})
