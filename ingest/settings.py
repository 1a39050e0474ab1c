"""Settings of the HTTP side."""

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field
from pydantic_settings import NoDecode

from ingest.append.server_checks import Level
from ingest.auth.receipts import ReceiptMethod
from ingest.auth.secrets import Secrets, parse_secrets
from ingest.auth.verifier import AUTHORIZATION, Verifier
from stream.settings import InvalidSettings, ProcessSettings, StreamSettings

PATHS = "/webhooks/message-status,/webhooks/messages/status,/webhooks/delivery-receipt,/webhooks/dlr"

Mode = Literal["required", "observe", "off"]


def _paths(value: str) -> str:
    paths = [path.strip() for path in value.split(",")]
    if len(set(paths)) < len(paths) or not all(path.startswith("/") and not set(path) & set("{}?# ") for path in paths):
        raise ValueError
    return ",".join(paths)


def _hosts(value: str) -> str:
    hosts = [host.strip() for host in value.split(",")]
    if not all(hosts) or len(set(hosts)) < len(hosts):
        raise ValueError
    return ",".join(hosts)


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
    """What SIGHUP reads again."""

    secrets: ClassVar[frozenset[str]] = StreamSettings.secrets | {"signature_secrets"}

    signature_secrets: SignatureSecrets = None


class IngestSettings(ProcessSettings):
    """What ``ackstream ingest`` reads."""

    secrets: ClassVar[frozenset[str]] = ProcessSettings.secrets | {"signature_secrets"}

    host: Annotated[str, NoDecode, AfterValidator(_hosts)] = Field(
        "127.0.0.1",
        description="addresses that webhooks come to, comma separated; 0.0.0.0 is all of IPv4, :: all of IPv6",
    )
    port: int = Field(3000, ge=0, le=65535, description="a TCP port, 0 to 65535; 0 takes a free one")
    admin_port: int = Field(9464, ge=0, le=65535, description="a TCP port, 0 to 65535; 0 takes a free one")
    paths: Annotated[str, NoDecode, AfterValidator(_paths)] = Field(
        PATHS,
        description="paths that start with /, comma separated; every shape is taken on each",
    )
    max_body: int = Field(128 * 1024, ge=1024, le=8 * 1024 * 1024, description="bytes, 1024 to 8388608")
    body_seconds: float = Field(
        5, ge=0.1, le=60, description="seconds from the end of a request's head to the last byte of its body, 0.1 to 60"
    )
    client_seconds: float = Field(
        10,
        ge=0.1,
        le=60,
        description="seconds that a client has for a whole request head, and as many to take its answer, 0.1 to 60",
    )
    keepalive_seconds: float = Field(
        75,
        ge=1,
        le=3600,
        description="seconds that a connection may be idle, 1 to 3600; more than the load balancer's own",
    )
    connections: int = Field(
        8192, ge=1, le=1_000_000, description="how many connections may be open at a time, 1 to 1000000"
    )
    signatures: Mode = Field("required", description="required, observe or off")
    signature_secrets: SignatureSecrets = Field(
        None,
        description="api_key:secret, comma separated or one a line; a key may stand twice while its secret changes",
    )
    signature_max_age_seconds: int = Field(
        90_000, ge=60, le=31_536_000, description="seconds since a signature was made, 60 to 31536000"
    )
    signature_header: Annotated[str, AfterValidator(_header)] = Field(
        AUTHORIZATION,
        description="the name of the header with the token, for a gateway that needs Authorization for itself",
    )
    wrong_signature: Literal["401", "503"] = Field(
        "503", description="503, after which the provider tries again, or 401, after which it gives the status up"
    )
    dlr_signature: ReceiptMethod | Literal["off"] | None = Field(
        None, description="md5hash, md5, sha1, sha256 or sha512, or off to take delivery receipts unsigned"
    )
    quarantine_entries: int = Field(1000, ge=0, le=100_000, description="refused payloads kept, 0 to 100000")
    quarantine_bytes: int = Field(
        32 * 1024 * 1024, ge=0, le=2**30, description="bytes of refused payloads kept in all, 0 to 1073741824"
    )
    ack: Level = Field(
        "stream",
        description="stream (a 200 is as durable as Redis is set to be) or fsync (it is on Redis's disk)",
    )
    ack_budget_ms: int = Field(
        500, ge=20, le=10_000, description="milliseconds that Redis has to confirm, 20 to 10000; then the spool is used"
    )
    spool_bytes: int = Field(
        2**30, ge=2**20, le=2**44, description="bytes that the spool may hold while Redis is away, 1048576 or more"
    )

    @property
    def hosts(self) -> list[str]:
        """The addresses, one by one."""
        return self.host.split(",")

    @property
    def routes(self) -> list[str]:
        """The paths, one by one."""
        return self.paths.split(",")

    @property
    def verifier(self) -> Verifier | None:
        """What checks signatures; None while they are off. Raises InvalidSettings if there is no secret to check by."""
        if self.signatures == "off":
            return None
        if self.signatures == "required" and self.signature_secrets is None:
            raise InvalidSettings(
                "ACKSTREAM_SIGNATURES is 'required', but there is no secret to check them by: set "
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
        """Whether the secrets come from an environment variable, which nobody can change while the process runs."""
        return self.is_variable("signature_secrets")

    def with_new_secrets(self) -> Self:
        """Return these settings with the secrets as they are in their file or .env now. Raises InvalidSettings."""
        return self.model_copy(update={"signature_secrets": _ReloadedSettings.load().signature_secrets})
