"""Settings of the processing side."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from stream.settings import StreamSettings

HANDLERS = ("store", "log")


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

    @property
    def handler_names(self) -> list[str]:
        """The handlers, one by one; each is a consumer group of that name."""
        return self.handlers.split(",")
