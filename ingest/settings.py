"""Settings of the HTTP side."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import NoDecode

from ingest.auth.settings import SignatureSettings
from stream.settings import TracedSettings

PATHS = "/webhooks/message-status,/webhooks/messages/status,/webhooks/delivery-receipt,/webhooks/dlr"

Level = Literal["stream", "fsync"]


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


class IngestSettings(SignatureSettings, TracedSettings):
    """Settings of ``ackstream ingest``."""

    host: Annotated[str, NoDecode, AfterValidator(_hosts)] = Field(
        "127.0.0.1",
        description="addresses to listen on, comma separated; 0.0.0.0 is all of IPv4, :: all of IPv6",
    )
    port: int = Field(3000, ge=0, le=65535, description="a TCP port, 0 to 65535; 0 takes a free one")
    admin_port: int = Field(9464, ge=0, le=65535, description="a TCP port, 0 to 65535; 0 takes a free one")
    paths: Annotated[str, NoDecode, AfterValidator(_paths)] = Field(
        PATHS,
        description="paths that start with /, comma separated; every path accepts every kind of webhook",
    )
    max_body: int = Field(128 * 1024, ge=1024, le=8 * 1024 * 1024, description="bytes, 1024 to 8388608")
    body_seconds: float = Field(
        5, ge=0.1, le=60, description="seconds from the end of a request's head to the last byte of its body, 0.1 to 60"
    )
    client_seconds: float = Field(
        10,
        ge=0.1,
        le=60,
        description="seconds that a client has to send a whole request head, and to read its answer, 0.1 to 60",
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
    ack: Level = Field(
        "stream",
        description="stream (a 200 is as durable as the settings of Redis) or fsync (the entry is on Redis's disk)",
    )
    ack_budget_ms: int = Field(
        500, ge=20, le=10_000, description="milliseconds that Redis has to confirm, 20 to 10000; then the spool is used"
    )
    spool_bytes: int = Field(
        2**30, ge=2**20, le=2**44, description="bytes that the spool may hold while Redis is away, 1048576 or more"
    )

    @property
    def hosts(self) -> list[str]:
        """The addresses as a list."""
        return self.host.split(",")

    @property
    def routes(self) -> list[str]:
        """The paths as a list."""
        return self.paths.split(",")
