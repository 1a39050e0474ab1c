"""Opens SQLite and PostgreSQL, with a limit for every wait, and classifies their errors."""

import asyncio
import math
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

import orjson
from aiosqlite import Connection
from sqlalchemy import URL, event
from sqlalchemy.exc import DBAPIError, DisconnectionError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from runtime.disk import make_folder
from runtime.errors import CommandError
from runtime.tasks import Backoff
from stream.redis.client import describe_error
from worker.database_fault import is_partly_damaged
from worker.store.postgresql.url import connect_arguments
from worker.store.settings import SQLITE

SQLITE_BUSY_SECONDS = 3.0  # a stop waits for it; afterwards the worker tries the batch again
COMMAND_SECONDS = 40.0  # asyncpg has no limit of its own and would wait for a frozen server for ever
POOL_SIZE = 4
NO_STATEMENT = "26000"
"""SQLSTATE: the server does not know a prepared statement any more, for example after DISCARD ALL by a pooler."""
UNTESTED_SECONDS = 1.0
"""A connection to PostgreSQL that was idle for longer is tested before its use, which takes four round trips. One that
was lost within this time fails a batch, which is tried again, as if it was lost during the batch."""
# Classes of SQLSTATE (worker.database_fault) with a fault of the server, or one for an operator: connection,
# transaction state, authorisation, no such database, no such table, resources, state of objects, system, internal.
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

_stopping: set[asyncio.Future[Any]] = set()
"""Connections of SQLite whose statement was cut off. Each is done when its thread has ended."""


class DatabaseAway(Exception):  # noqa: N818 - the caller waits until it is back
    """The database accepts no connection. The text contains no values."""

    @property
    def orig(self) -> BaseException | None:
        """The error of the driver."""
        return getattr(self.__cause__, "orig", None) or self.__cause__


class FileReplaced(DatabaseAway):
    """The SQLite file or its write-ahead log was replaced after it was opened, so the last writes are lost."""


class SqliteConnection(sqlite3.Connection):
    """A connection that releases its locks when it is closed.

    SQLite keeps the transaction of a closed connection until all its statements are freed. The traceback of a cancelled
    call refers to its cursors in a cycle, so every other writer would wait for the garbage collector of this process.
    https://www.sqlite.org/c3ref/close.html
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cursors = WeakSet[sqlite3.Cursor]()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a cursor that ends with the connection."""
        cursor = super().cursor(*args, **kwargs)
        self._cursors.add(cursor)
        return cursor

    def close(self) -> None:
        """Free the statements, then close the connection."""
        while self._cursors:  # none is left if it is closed again
            self._cursors.pop().close()
        super().close()


def open_engine(url: str, *, read_only: bool = False, create: bool = False, keeps_plans: bool = False) -> AsyncEngine:
    """Open an engine on ``sqlite:///path`` or ``postgresql://…`` (worker.store.postgresql.url) without connecting.

    For SQLite, all characters after ``sqlite:///`` are the path. A missing file is created only with ``create``. Unless
    ``read_only``, every transaction takes the write lock at its start, because a transaction that becomes a writer
    later fails at once if another one writes. The execution option ``read_only`` does the same for one connection. With
    ``keeps_plans`` PostgreSQL plans a statement once for each connection, for statements that find rows by their keys.
    Errors never show the parameters. Raises CommandError or WrongValue.
    """
    if url.startswith(SQLITE):
        path, begin = Path(url.removeprefix(SQLITE)).absolute(), "BEGIN" if read_only else "BEGIN IMMEDIATE"
        return _open_sqlite(path, begin, create=create)
    return _open_postgresql(url, keeps_plans=keeps_plans)


def _create_engine(url: str | URL, **arguments: Any) -> AsyncEngine:
    return create_async_engine(
        url,
        hide_parameters=True,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        pool_size=POOL_SIZE,
        pool_use_lifo=True,  # SQLite empties the cache of a connection that reads after another one has written
        **arguments,
    )


def _open_postgresql(url: str, *, keeps_plans: bool) -> AsyncEngine:
    # Without names and a cache of its own, the driver sends a statement with each use. SQLAlchemy keeps its types.
    # https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#prepared-statement-name-with-pgbouncer
    pooled = {"statement_cache_size": 0, "prepared_statement_name_func": str, "command_timeout": COMMAND_SECONDS}
    arguments = connect_arguments(url) | pooled
    try:
        from worker.store.postgresql import connection  # noqa: PLC0415 - its driver is an extra

    except ModuleNotFoundError:
        raise CommandError("the driver of PostgreSQL is not installed: pip install 'ackstream[postgres]'") from None
    kind = connection.PlanningConnection if keeps_plans else connection.LimitedConnection
    engine = _create_engine("postgresql+asyncpg://", connect_args={**arguments, "connection_class": kind})

    @event.listens_for(engine.sync_engine, "checkin")
    def on_checkin(connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()
        if connection and connection.driver_connection.is_in_transaction():
            record.invalidate()  # it failed at its start: nothing ends it, and the driver would continue it

    @event.listens_for(engine.sync_engine, "checkout")
    def on_checkout(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("idle_since", math.inf) > UNTESTED_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as exc:
                raise InvalidatePoolError from exc  # the pool connects again

    @event.listens_for(engine.sync_engine, "handle_error")
    def on_error(context: Any) -> None:
        # The driver cannot read an answer after a migration has changed a type: each connection keeps its types.
        error = context.original_exception
        is_unreadable = not isinstance(error, engine.dialect.loaded_dbapi.Error)
        context.is_disconnect |= is_unreadable or getattr(error, "sqlstate", None) == NO_STATEMENT

    return engine


def _open_sqlite(path: Path, begin: str, *, create: bool) -> AsyncEngine:
    mode = "rwc" if create else "rw"
    url = URL.create(
        "sqlite+aiosqlite", database=f"file://{quote(os.fsencode(path))}", query={"uri": "true", "mode": mode}
    )
    engine = _create_engine(url, connect_args={"timeout": SQLITE_BUSY_SECONDS, "factory": SqliteConnection})

    @event.listens_for(engine.sync_engine, "do_connect")
    def before_connect(*_: Any) -> None:
        if create:
            make_folder(path.parent)
            path.touch(mode=0o600)  # it contains payloads and numbers; SQLite gives its log the same mode
        else:
            path.stat()  # fail here if the file is missing, without starting a thread of the driver

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        _stop_once(connection.driver_connection)
        connection.isolation_level = None  # so that the driver starts no transactions of its own
        connection.run_async(_use_wal)
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = FULL")  # acked events must be on the disk
        cursor.execute("PRAGMA fullfsync = ON")  # for macOS; without effect elsewhere
        cursor.execute("PRAGMA checkpoint_fullfsync = ON")
        # 64 MiB, full after about 48,000 events. With 32 MiB, 4,000 events took 7 % more CPU, with 16 MiB 25 %.
        cursor.execute("PRAGMA cache_size = -65536")
        cursor.execute("PRAGMA wal_autocheckpoint = 10000")  # 40 MB; by default nearly each batch makes a checkpoint
        cursor.close()
        record.info["log"] = path.with_name(f"{path.name}-wal")
        record.info["files"] = {path: _identity(path)}

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("read_only") else begin)

    return engine


def _stop_once(driver: Connection) -> None:
    """Let every call of ``stop`` return the same future.

    SQLAlchemy stops a connection that it cannot close at once, and the driver stops it again after its close. The
    thread ends after the first call, so the future of the second one would never be done.
    """
    stop = driver.stop

    @cache
    def stop_once() -> asyncio.Future[Any] | None:
        future = stop()
        if future is not None:
            _stopping.add(future)
            future.add_done_callback(_stopping.discard)
        return future

    driver.stop = stop_once  # type: ignore[method-assign]


async def close_engine(engine: AsyncEngine) -> None:
    """Close all connections. Wait for the threads of statements that were cut off, which may wait for a lock."""
    await engine.dispose()
    loop = asyncio.get_running_loop()
    if threads := [future for future in _stopping if future.get_loop() is loop]:
        await asyncio.wait(threads, timeout=2 * SQLITE_BUSY_SECONDS)


async def _use_wal(connection: Connection) -> None:
    """Switch to the write-ahead log. If several switch at once, SQLite refuses all but one without waiting."""
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
    """Yield a connection. Raises DatabaseAway if connecting fails, for every error of the driver."""
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(engine.connect())
        except Exception as exc:  # drivers raise any class here, and no events were written yet
            raise DatabaseAway(f"the database does not answer ({describe_error(exc)})") from exc
        yield connection


def confirm_files(connection: AsyncConnection) -> None:
    """Raise FileReplaced unless the files of the database are those that this connection has opened.

    A SQLite file that was removed or replaced accepts writes as before, but they are lost when the process ends. Call
    this after a commit: the write-ahead log exists then, so its identity is recorded at the first call.
    """
    files: dict[Path, tuple[int, int] | None] = connection.info.get("files", {})
    if log := connection.info.get("log"):
        files.setdefault(log, _identity(log))
    for path, identity in files.items():
        if identity is None or _identity(path) != identity:
            raise FileReplaced(f"{path.name} was replaced or removed under this process")


def is_away(exc: BaseException) -> bool:
    """Whether the server is away, or an operator has to correct it, so that the same batch can succeed later.

    All other errors, also unknown ones, count as faults of the events in the batch.
    """
    if isinstance(exc, DBAPIError):
        state, code = getattr(exc.orig, "sqlstate", None), getattr(exc.orig, "sqlite_errorcode", None)
        if exc.connection_invalidated:
            return True
        if state is not None:
            return str(state)[:2] in AWAY_STATES and not is_partly_damaged(exc)
        if code == sqlite3.SQLITE_ERROR:
            return str(exc.orig).startswith("no such")  # table or column; the code is not more precise
        return code is not None and code & _PRIMARY_CODE in AWAY_CODES
    return isinstance(exc, DatabaseAway | OSError | PoolTimeoutError | DisconnectionError)  # OSError: TimeoutError too
