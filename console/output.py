"""How a command asks Redis or the database once, and prints what it found: a table, or JSON for programs."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from runtime.errors import Refusal
from runtime.escape import printable
from stream.redis.client import client, names, shown
from stream.settings import StreamSettings
from worker.settings import WorkerSettings
from worker.store.database import check_revision, open_engine

T = TypeVar("T")


def ask_redis(settings: StreamSettings, ask: Callable[[Redis], Awaitable[T]]) -> T:
    """Return what ``ask`` finds. Raises Refusal if Redis does not answer."""

    async def asking() -> T:
        server = client(settings.redis_url)
        try:
            return await ask(server)
        finally:
            await server.aclose()

    try:
        return asyncio.run(asking())
    except (RedisError, OSError) as exc:
        raise Refusal(f"Redis at {shown(settings.redis_url)} does not answer ({names(exc)})") from None


def ask_database(settings: WorkerSettings, ask: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """Return what ``ask`` finds. Raises Refusal if the database does not answer or has other tables."""

    async def asking() -> T:
        engine = open_engine(settings.database_url, read_only=True)
        try:
            await check_revision(engine)
            return await ask(engine)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(asking())
    except (DBAPIError, OSError) as exc:
        raise Refusal(f"the database at {shown(settings.database_url)} does not answer ({names(exc)})") from None


def print_json(value: object) -> None:
    """Print JSON."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """Print a line for each pair that has a value."""
    table = Table(show_header=False, box=None)
    for name, value in pairs.items():
        if value is not None:
            table.add_row(printable(name), printable(str(value), keep="\n"))
    _console().print(table)


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table; nothing if there are no rows."""
    if not rows:
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*("" if value is None else printable(str(value)) for value in row.values()))
    _console().print(table)


def _console() -> Console:
    # Piped, a table is as wide as it needs: cut off at 80 columns its ids would be of no use.
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 250)
