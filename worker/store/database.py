"""Engines for the two databases, with every wait bounded, and the check that the tables are up to date."""

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import orjson
import structlog
from aiosqlite import Connection
from sqlalchemy import event, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from runtime.backoff import Backoff
from runtime.errors import Refusal
from stream.redis.client import names
from worker.store.tables import REVISION

log = structlog.get_logger("database")

CONNECT_SECONDS = 5.0
SQLITE_BUSY_SECONDS = 3.0  # a stop has to wait for it; after it the batch is tried again
POSTGRESQL_LIMITS = {
    # A writer that hangs while it holds locks (frozen process, lost host) is cut off, so that the others go on.
    "idle_in_transaction_session_timeout": "15s",
    "lock_timeout": "10s",
    "statement_timeout": "30s",
}
COMMAND_SECONDS = 40.0  # asyncpg has none of its own: a frozen server would hang for ever
# Classes of SQLSTATE: data exception, integrity constraint, program limit, and what a trigger raises. The rest is the
# database's trouble or its owner's: no connection, locks, full, read-only, no such table.
FAULTS_OF_DATA = frozenset(("22", "23", "54", "P0"))


class SchemaMismatch(Refusal):
    """The tables are not those that this code needs."""


def open_engine(url: str, *, read_only: bool = False) -> AsyncEngine:
    """Open an engine on ``sqlite:///path`` or ``postgresql://…``; no connection is made yet.

    On SQLite every transaction takes the write lock at its start (one that turns into a writer later fails at once
    when another writes), unless ``read_only``. Errors never show the parameters.
    """
    scheme, _, rest = url.partition("://")
    common: dict[str, Any] = {
        "hide_parameters": True,
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
        "pool_size": 4,
    }
    if scheme == "sqlite":
        Path(rest.removeprefix("/")).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = create_async_engine(
            f"sqlite+aiosqlite://{rest}",
            connect_args={"timeout": SQLITE_BUSY_SECONDS},
            **common,
        )
        _prepare_sqlite(engine, "BEGIN" if read_only else "BEGIN IMMEDIATE")
        return engine
    try:
        return create_async_engine(
            f"postgresql+asyncpg://{rest}",
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": COMMAND_SECONDS,
                "server_settings": {"application_name": "ackstream", **POSTGRESQL_LIMITS},
            },
            pool_pre_ping=True,
            **common,
        )
    except ModuleNotFoundError:
        raise Refusal("PostgreSQL needs its driver: pip install 'ackstream[postgres]'") from None


def _prepare_sqlite(engine: AsyncEngine, begin: str) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver shall not begin transactions on its own
        connection.run_async(_use_wal)
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = FULL")  # what is acked must be on the disk
        cursor.execute("PRAGMA cache_size = -65536")  # 64 MiB: ids are random, so the index is visited everywhere
        cursor.execute("PRAGMA wal_autocheckpoint = 10000")  # 40 MB; by default nearly every batch made one
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)


async def _use_wal(connection: Connection) -> None:
    """Switch to the write-ahead log. Where several do so at once, SQLite refuses all but one without waiting."""
    patient_until, backoff = time.monotonic() + SQLITE_BUSY_SECONDS, Backoff(0.01, 0.1)
    while True:
        try:
            async with connection.execute("PRAGMA journal_mode = WAL"):
                return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > patient_until:
                raise
        await backoff.wait()


def is_away(exc: BaseException) -> bool:
    """Whether the database is at fault, and not what was to be written: then the same will succeed later."""
    if isinstance(exc, DBAPIError):
        if isinstance(exc, DataError | IntegrityError) or isinstance(getattr(exc.orig, "__cause__", None), ValueError):
            return False  # asyncpg's own complaints about a value are ValueErrors
        return str(getattr(exc.orig, "sqlstate", None) or "")[:2] not in FAULTS_OF_DATA
    return isinstance(exc, OSError | SQLAlchemyError) and not isinstance(
        exc, StatementError
    )  # OSError: TimeoutError too


async def revision(connection: AsyncConnection) -> str | None:
    """Return the migration that the database stands at; None before the first."""
    try:
        async with connection.begin():
            return (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
    except DBAPIError as exc:
        if "alembic_version" in str(exc.orig):  # no such table, in the words of either database
            return None
        raise


async def check_revision(engine: AsyncEngine) -> None:
    """Raise SchemaMismatch unless the tables are those of this version, and what the database raises if it is away."""
    async with engine.connect() as connection:
        found = await revision(connection)
    if found != REVISION:
        raise SchemaMismatch(
            f"the database's tables are at revision {found or 'none'}, this version needs {REVISION}: "
            "run `ackstream migrate` with this version"
        )


async def await_revision(url: str, stop: asyncio.Event) -> None:
    """Check the revision, waiting for a database that is away; return too when ``stop`` is set meanwhile."""
    engine = open_engine(url, read_only=True)  # for a writer may hold SQLite's lock for long
    backoff = Backoff()
    try:
        while not stop.is_set():
            try:
                await check_revision(engine)
            except (DBAPIError, OSError) as exc:
                log.warning("database.away", error=names(exc))
                await backoff.wait(stop)
            else:
                return
    finally:
        await engine.dispose()
