"""Engines for the two databases, with every wait bounded, and what their errors mean."""

import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from aiosqlite import Connection
from sqlalchemy import URL, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from runtime.disk import make_folder
from runtime.errors import Refusal
from runtime.tasks import Backoff
from stream.redis.client import describe_error
from worker.store import postgresql_url
from worker.store.settings import SQLITE

SQLITE_BUSY_SECONDS = 3.0  # a stop has to wait for it; after it the batch is tried again
# A writer that hangs while it holds locks (frozen process, lost host) is cut off, so that the others go on. The limits
# are set in each transaction: a pooler in transaction mode gives each one another server connection, and refuses them
# at the start of a connection (https://www.pgbouncer.org/features.html).
POSTGRESQL_LIMITS = (
    "SELECT set_config('idle_in_transaction_session_timeout', '15s', true), "
    "set_config('lock_timeout', '10s', true), set_config('statement_timeout', '30s', true)"
)
COMMAND_SECONDS = 40.0  # asyncpg has none of its own: a frozen server would hang for ever
POOL_SIZE = 4
# Classes of SQLSTATE that speak of the server, or of what its owner has to put right: connection, transaction state,
# authorisation, no such database, rollback, no such table, resources, state of objects, an operator, system, internal.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
AWAY_STATES = frozenset(("08", "25", "26", "28", "3D", "40", "42", "53", "55", "57", "58", "F0", "XX"))
AWAY_CODES = frozenset(
    (
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    )
)
_PRIMARY_CODE = 0xFF


class DatabaseAway(Exception):  # noqa: N818 - named for what it says
    """No connection to the database can be had, whatever was to be done with it; the text has no values in it."""

    @property
    def orig(self) -> BaseException | None:
        """The driver's error."""
        return getattr(self.__cause__, "orig", None) or self.__cause__


class FileReplaced(DatabaseAway):
    """SQLite's file or write-ahead log is another than the one that was opened: what was written is in neither."""


def open_engine(url: str, *, read_only: bool = False, create: bool = False) -> AsyncEngine:
    """Open an engine on ``sqlite:///path`` or ``postgresql://…`` (worker.store.postgresql_url); nothing is connected.

    Of SQLite all after ``sqlite:///`` is the path, whatever characters it has; only with ``create`` a file that is not
    there is made. Every transaction takes the write lock at its start (one that turns into a writer later fails at
    once when another writes), unless ``read_only``. Errors never show the parameters. Raises Refusal and WrongValue.
    """
    if url.startswith(SQLITE):
        path, begin = Path(url.removeprefix(SQLITE)).absolute(), "BEGIN" if read_only else "BEGIN IMMEDIATE"
        return _open_sqlite(path, begin, create=create)
    return _open_postgresql(url)


def _create_engine(url: str | URL, **arguments: Any) -> AsyncEngine:
    return create_async_engine(
        url,
        hide_parameters=True,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        pool_size=POOL_SIZE,
        **arguments,
    )


def _open_postgresql(url: str) -> AsyncEngine:
    arguments = postgresql_url.connect_arguments(url)
    # Nothing is prepared for longer than a statement takes: behind a pooler the next one meets another server
    # connection. https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#prepared-statement-name-with-pgbouncer
    pooled = {"prepared_statement_cache_size": 0, "statement_cache_size": 0, "prepared_statement_name_func": str}
    try:
        engine = _create_engine(
            "postgresql+asyncpg://",
            connect_args={**arguments, **pooled, "command_timeout": COMMAND_SECONDS},
            pool_pre_ping=True,
        )
    except ModuleNotFoundError:
        raise Refusal("PostgreSQL needs its driver: pip install 'ackstream[postgres]'") from None

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql(POSTGRESQL_LIMITS).close()

    return engine


def _open_sqlite(path: Path, begin: str, *, create: bool) -> AsyncEngine:
    mode = "rwc" if create else "rw"
    url = URL.create(
        "sqlite+aiosqlite", database=f"file://{quote(os.fsencode(path))}", query={"uri": "true", "mode": mode}
    )
    engine = _create_engine(url, connect_args={"timeout": SQLITE_BUSY_SECONDS})

    @event.listens_for(engine.sync_engine, "do_connect")
    def before_connect(*_: Any) -> None:
        if create:
            make_folder(path.parent)
            path.touch(mode=0o600)  # it holds payloads and numbers; SQLite gives its log the same mode
        else:
            path.stat()  # so that a file that is not there costs no thread of the driver's

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver shall not begin transactions on its own
        connection.run_async(_use_wal)
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = FULL")  # what is acked must be on the disk
        cursor.execute("PRAGMA fullfsync = ON")  # macOS; elsewhere it changes nothing
        cursor.execute("PRAGMA checkpoint_fullfsync = ON")
        cursor.execute("PRAGMA cache_size = -65536")  # 64 MiB: ids are random, so the index is visited everywhere
        cursor.execute("PRAGMA wal_autocheckpoint = 10000")  # 40 MB; by default nearly every batch made one
        cursor.close()
        record.info["log"] = path.with_name(f"{path.name}-wal")
        record.info["files"] = {path: _identity(path)}

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


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


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@asynccontextmanager
async def open_connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection. Raises DatabaseAway if none can be had, whatever the driver says."""
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(engine.connect())
        except Exception as exc:  # drivers raise errors of any class here, and none speaks of what is to be written
            raise DatabaseAway(f"the database does not answer ({describe_error(exc)})") from exc
        yield connection


def confirm_files(connection: AsyncConnection) -> None:
    """Raise FileReplaced unless what this connection has committed is in the files that have the database's names.

    A SQLite file that was removed or replaced takes writes as before, and they are gone when the process ends. To be
    asked after a commit: then the write-ahead log is there, so that it is known from the first time on.
    """
    files: dict[Path, tuple[int, int] | None] = connection.info.get("files", {})
    if log := connection.info.get("log"):
        files.setdefault(log, _identity(log))
    for path, identity in files.items():
        if identity is None or _identity(path) != identity:
            raise FileReplaced(f"{path.name} was replaced or removed under this process")


def is_away(exc: BaseException) -> bool:
    """Whether the error says that the server is away, or that its owner has to put something right.

    Then the same will succeed later. Everything else, an error that is not known too, is the fault of what was to be
    written.
    """
    if isinstance(exc, DBAPIError):
        state, code = getattr(exc.orig, "sqlstate", None), getattr(exc.orig, "sqlite_errorcode", None)
        if exc.connection_invalidated:
            return True
        if state is not None:
            return str(state)[:2] in AWAY_STATES
        if code == sqlite3.SQLITE_ERROR:
            return str(exc.orig).startswith("no such")  # table or column; the code says nothing more
        return code is not None and code & _PRIMARY_CODE in AWAY_CODES
    return isinstance(exc, DatabaseAway | OSError | PoolTimeoutError | DisconnectionError)  # OSError: TimeoutError too
