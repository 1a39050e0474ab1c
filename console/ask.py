"""How a command asks Redis or the database: one connection for one question.

An error is raised as it came, with a note that says where: ``console.errors`` makes a sentence of both.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from runtime.errors import Refusal
from stream.redis.client import client, redact_url
from stream.settings import StreamSettings

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

    from worker.store.settings import DatabaseSettings

T = TypeVar("T")


def ask_redis(settings: StreamSettings, ask: "Callable[[Redis], Awaitable[T]]") -> T:
    """Return what ``ask`` finds. Raises RedisError with a note."""

    async def run_query() -> T:
        server = client(settings.redis_url)
        try:
            return await ask(server)
        finally:
            await server.aclose()

    return _run(run_query(), f"Redis at {redact_url(settings.redis_url)}")


def ask_database(settings: "DatabaseSettings", ask: "Callable[[AsyncEngine], Awaitable[T]]") -> T:
    """Return what ``ask`` finds. Raises Refusal if there is no database yet; a driver's error has a note."""
    if settings.sqlite_file and not settings.sqlite_file.exists():
        raise Refusal(
            f"there is no database at {settings.sqlite_file} yet: start `ackstream up` or a worker first, or set "
            "ACKSTREAM_DATABASE_URL (or --data) to what the worker uses"
        )
    from worker.store.database import open_engine  # noqa: PLC0415 - SQL only for who needs it
    from worker.store.revision import check_revision  # noqa: PLC0415 - likewise

    async def run_query() -> T:
        engine = open_engine(settings.database_url, read_only=True)
        try:
            await check_revision(engine)
            return await ask(engine)
        finally:
            await engine.dispose()

    return _run(run_query(), f"the database at {redact_url(settings.database_url)}")


def _run(query: Coroutine[Any, Any, T], where: str) -> T:
    try:
        return asyncio.run(query)
    except Exception as exc:
        exc.add_note(where)
        raise


def migrate_database(settings: "DatabaseSettings") -> None:
    """Bring the tables up to date. A driver's error has a note."""
    from worker.store.migrate import migrate_at  # noqa: PLC0415 - likewise

    _run(migrate_at(settings.database_url), f"the database at {redact_url(settings.database_url)}")
