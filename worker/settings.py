"""Settings of the processing side."""

import re
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from stream.settings import StreamSettings

HANDLERS = ("store", "log")
UNIT_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
LONGEST_DAYS = 36_500


def _handlers(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    if len(set(names)) < len(names) or not set(names) <= set(HANDLERS):
        raise ValueError
    return ",".join(names)


def _database_url(value: str) -> str:
    if not value.startswith(("sqlite:///", "postgresql://")):
        raise ValueError
    try:
        make_url(value)
    except ArgumentError as exc:
        raise ValueError from exc
    return value


def _duration(value: str) -> str:
    if value != "off" and not 0 < _duration_ms(value) <= LONGEST_DAYS * UNIT_MS["d"]:
        raise ValueError
    return value


def _duration_ms(value: str) -> int:
    if not re.fullmatch(r"\d{1,8}[mhd]", value, re.ASCII):
        raise ValueError
    return int(value[:-1]) * UNIT_MS[value[-1]]


class WorkerSettings(StreamSettings):
    """What ``ackstream worker`` and the commands that read the tables need."""

    secrets: ClassVar[frozenset[str]] = frozenset({"redis_url", "database_url"})

    admin_port: int = Field(0, ge=0, le=65535, description="a TCP port, 0 to 65535; 0 takes a free one")
    database_url: Annotated[str, AfterValidator(_database_url)] = Field(
        default_factory=lambda known: f"sqlite:///{Path(known.get('data', '.')) / 'ackstream.db'}",
        description="sqlite:///path or postgresql://user:password@host:port/database",
    )
    handlers: Annotated[str, AfterValidator(_handlers)] = Field(
        ",".join(HANDLERS), description="store, log or both, comma separated"
    )
    batch_entries: int = Field(4000, ge=1, le=5000, description="entries read at once, 1 to 5000")
    log_reveal: bool = Field(
        False,
        description="true or false; true makes the log handler write whole numbers",
    )

    retention: Annotated[str, AfterValidator(_duration)] = Field(
        "7d", description="how long entries are kept: a number with m, h or d, such as 90m, 12h or 7d; or off"
    )
    retention_bytes: int | None = Field(
        None, ge=1024**2, description="how large the stream may become, in bytes, at least 1048576"
    )
    archive: Path | None = Field(None, description="a folder; what is trimmed is kept there")

    @property
    def retention_ms(self) -> int | None:
        """How long entries are kept; None if this worker trims nothing."""
        return None if self.retention == "off" else _duration_ms(self.retention)

    @property
    def handler_names(self) -> list[str]:
        """The handlers, one by one; each is a consumer group of that name."""
        return self.handlers.split(",")
