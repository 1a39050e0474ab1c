"""Settings of what reads or writes the tables."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from runtime.errors import WrongValue
from stream.settings import StreamSettings


def _database_url(value: str) -> str:
    if not value.startswith(("sqlite:///", "postgresql://")):
        raise ValueError
    if value in ("sqlite:///", "sqlite:///:memory:"):
        raise WrongValue("no file is named")
    try:
        make_url(value)
    except ArgumentError as exc:
        raise ValueError from exc
    return value


class DatabaseSettings(StreamSettings):
    """What ``ackstream trace`` and ``migrate`` need, and no more: a wrong setting of the worker does not stop them."""

    secrets: ClassVar[frozenset[str]] = frozenset({"redis_url", "database_url"})

    database_url: Annotated[str, AfterValidator(_database_url)] = Field(
        default_factory=lambda known: f"sqlite:///{Path(known.get('data', '.')) / 'ackstream.db'}",
        description="sqlite:///path or postgresql://user:password@host:port/database",
    )

    @property
    def sqlite_file(self) -> Path | None:
        """The file that SQLite keeps the tables in; None for another database."""
        scheme, _, rest = self.database_url.partition(":///")
        return Path(rest) if scheme == "sqlite" else None
