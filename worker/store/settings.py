"""Settings of commands that read or write the tables."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from runtime.errors import WrongValue
from stream.settings import StreamSettings
from worker.store import postgresql_url

SQLITE = "sqlite:///"


def _database_url(value: str) -> str:
    if value in (SQLITE, f"{SQLITE}:memory:"):
        raise WrongValue("it names no file; write sqlite:///path")
    if value.startswith(postgresql_url.SCHEMES):
        postgresql_url.check(value)
    elif not value.startswith(SQLITE):
        raise ValueError
    return value


class DatabaseSettings(StreamSettings):
    """The settings of ``ackstream trace`` and ``migrate``, which work even if a setting of the worker is invalid."""

    secrets: ClassVar[frozenset[str]] = frozenset({"redis_url", "database_url"})

    database_url: Annotated[str, AfterValidator(_database_url)] = Field(
        default_factory=lambda values: f"sqlite:///{Path(values.get('data', '.')) / 'ackstream.db'}",
        description="sqlite:///path or postgres://user:password@host:port/database",
    )

    @property
    def sqlite_file(self) -> Path | None:
        """The SQLite file with the tables; None for another database."""
        path = self.database_url.removeprefix(SQLITE)
        return None if path == self.database_url else Path(path)
