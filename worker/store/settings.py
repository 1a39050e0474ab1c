"""Settings of commands that read or write the tables."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from runtime.errors import WrongValue
from stream.settings import StreamSettings
from worker.events.number_hash import NumberHash
from worker.store.postgresql.url import SCHEMES, check

SQLITE = "sqlite:///"
SHORTEST_KEY = 32
"""Characters: a computer tries all numbers of a country within seconds, so only the key protects them."""


def _database_url(value: str) -> str:
    if value in (SQLITE, f"{SQLITE}:memory:"):
        raise WrongValue("it names no file; write sqlite:///path")
    if value.startswith(SCHEMES):
        check(value)
    elif not value.startswith(SQLITE):
        raise ValueError
    return value


def _number_key(value: str) -> str:
    if len(value) < SHORTEST_KEY:
        raise WrongValue(f"it has {len(value)} characters")
    return value


class DatabaseSettings(StreamSettings):
    """The settings of ``ackstream trace`` and ``migrate``, which work even if a setting of the worker is invalid."""

    secrets: ClassVar[frozenset[str]] = frozenset({"redis_url", "database_url", "number_key"})
    protections: ClassVar[frozenset[str]] = frozenset({"number_key"})

    database_url: Annotated[str, AfterValidator(_database_url)] = Field(
        default_factory=lambda values: f"sqlite:///{Path(values.get('data', '.')) / 'ackstream.db'}",
        description="sqlite:///path or postgres://user:password@host:port/database",
    )

    number_key: Annotated[str, AfterValidator(_number_key)] | None = Field(
        None,
        description=f"a secret of at least {SHORTEST_KEY} characters: the tables have hashes with this key instead of "
        "phone numbers, see docs/privacy.md",
    )

    @property
    def number_hash(self) -> NumberHash | None:
        """The hash of phone numbers in the tables; None if the tables have the numbers themselves."""
        return None if self.number_key is None else NumberHash(self.number_key)

    @property
    def sqlite_file(self) -> Path | None:
        """The SQLite file with the tables; None for another database."""
        path = self.database_url.removeprefix(SQLITE)
        return None if path == self.database_url else Path(path)
