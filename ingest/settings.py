"""Settings of the HTTP side."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import NoDecode

from ingest.durability import Level
from stream.settings import InvalidSettings, StreamSettings

PATHS = "/webhooks/message-status,/webhooks/messages/status,/webhooks/delivery-receipt,/webhooks/dlr"


def _paths(value: str) -> str:
    paths = [path.strip() for path in value.split(",")]
    if len(set(paths)) < len(paths) or not all(path.startswith("/") and not set(path) & set("{}?# ") for path in paths):
        raise ValueError
    return ",".join(paths)


class IngestSettings(StreamSettings):
    """What ``ackstream ingest`` reads."""

    host: str = Field(
        "127.0.0.1",
        description="the address that webhooks come to; 0.0.0.0 is every address",
    )
    port: int = Field(3000, ge=0, le=65535, description="a TCP port, 0 to 65535; 0 takes a free one")
    admin_port: int = Field(9464, ge=0, le=65535, description="a TCP port, 0 to 65535; 0 takes a free one")
    paths: Annotated[str, NoDecode, AfterValidator(_paths)] = Field(
        PATHS,
        description="paths that start with /, comma separated; every shape is taken on each",
    )
    max_body: int = Field(128 * 1024, ge=1024, le=8 * 1024 * 1024, description="bytes, 1024 to 8388608")
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
    signatures: Literal["required", "observe", "off"] = Field("required", description="required, observe or off")

    @property
    def routes(self) -> list[str]:
        """The paths, one by one."""
        return self.paths.split(",")

    def refuse_signatures(self) -> None:
        """Raise InvalidSettings unless signatures are off: this version cannot check them, and fails closed."""
        if self.signatures != "off":
            raise InvalidSettings(
                f"ACKSTREAM_SIGNATURES is {self.signatures!r}, but this version cannot check signatures yet: "
                "set ACKSTREAM_SIGNATURES=off, and let only the provider reach the port"
            )
