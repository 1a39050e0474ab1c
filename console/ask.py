"""Query Redis or the database from a command, over a connection that lives for one query.

Errors are raised unchanged, with a note that names the server. ``console.errors`` turns both into one sentence.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from runtime.errors import CommandError
from stream.redis.client import client, redact_url
from stream.settings import StreamSettings

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

    from worker.store.settings import DatabaseSettings

T = TypeVar("T")


def ask_redis(settings: StreamSettings, ask: "Callable[[Redis], Awaitable[T]]") -> T:
    """Return the result of ``ask``. Raises RedisError with a note."""

    async def run_query() -> T:
        server = client(settings.redis_url)
        try:
            return await ask(server)
        finally:
            await server.aclose()

    return _run(run_query(), f"Redis at {redact_url(settings.redis_url)}")


def ask_database(settings: "DatabaseSettings", ask: "Callable[[AsyncEngine], Awaitable[T]]") -> T:
    """Return the result of ``ask``. Raises CommandError if the database is missing; driver errors have a note."""
    if settings.sqlite_file and not settings.sqlite_file.exists():
        raise CommandError(
            f"no database at {settings.sqlite_file} yet: start `ackstream up` or a worker first, or set "
            "ACKSTREAM_DATABASE_URL (or --data) to the value that the worker has"
        )
    from worker.store.database import close_engine, open_engine  # noqa: PLC0415 - loads SQLAlchemy only for commands that need it
    from worker.store.revision import check_revision  # noqa: PLC0415 - as above

    async def run_query() -> T:
        engine = open_engine(settings.database_url, read_only=True)
        try:
            await check_revision(engine)
            return await ask(engine)
        finally:
            await close_engine(engine)

    return _run(run_query(), f"the database at {redact_url(settings.database_url)}")


def _run(query: Coroutine[Any, Any, T], where: str) -> T:
    try:
        return asyncio.run(query)
    except Exception as exc:
        exc.add_note(where)
        raise


def migrate_database(settings: "DatabaseSettings") -> None:
    """Bring the tables up to date, with its progress on stderr. Driver errors have a note."""
    from worker.store.migrate import migrate_at  # noqa: PLC0415 - as in ask_database

    def report(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    _run(migrate_at(settings.database_url, report), f"the database at {redact_url(settings.database_url)}")
