"""Read the versions and the durability of Redis and of the database."""

from dataclasses import asdict, dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.append.server_checks import POLICY, REQUIRED, find_shortcomings
from stream.redis.client import describe_error
from stream.redis.errors import identify_fault
from worker.store.database import DatabaseAway, open_connection
from worker.store.revision import read_revision
from worker.store.tables import REVISION


@dataclass(frozen=True, slots=True)
class RedisPart:
    """The server: its version, and how durable an append is. Unknown values are None."""

    away: str | None = None
    """Why it does not answer."""
    version: str | None = None
    durable: bool | None = None
    shortcomings: tuple[str, ...] = ()
    """The settings that make an append less durable than the disk."""
    memory_used: int | None = None
    memory_max: int | None = None
    """None without a limit, or if it is not known."""
    replicas: int | None = None

    def summary(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DatabasePart:
    """The database: its version, and the revision of its tables."""

    needs: str
    """The revision that this version of Ackstream makes."""
    away: str | None = None
    version: str | None = None
    revision: str | None = None

    def summary(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return asdict(self)


async def read_redis(server: Redis) -> RedisPart:
    """Return the state of the server, also if it does not answer."""
    try:
        info: Any = await _ask(server.info("server")) or {}
        memory: Any = await _ask(server.info("memory")) or {}
        replication: Any = await _ask(server.info("replication")) or {}
        settings: Any = await _ask(server.config_get(*REQUIRED, POLICY))
    except RedisError as exc:
        return RedisPart(away=identify_fault(exc).sentence)
    name = "Valkey" if info.get("valkey_version") else "Redis"
    number = info.get("valkey_version") or info.get("redis_version")
    short = () if settings is None else tuple(find_shortcomings(settings))
    return RedisPart(
        version=f"{name} {number}" if number else None,
        durable=None if settings is None else not short,
        shortcomings=short,
        memory_used=memory.get("used_memory"),
        memory_max=memory.get("maxmemory") or None,
        replicas=replication.get("connected_slaves"),
    )


async def _ask(reply: Any) -> Any:
    """Return the reply; None if this user may not ask."""
    try:
        return await reply
    except ResponseError:
        return None


async def read_database(engine: AsyncEngine) -> DatabasePart:
    """Return the state of the database, also if it does not answer."""
    is_sqlite = engine.dialect.name == "sqlite"
    query = "SELECT sqlite_version()" if is_sqlite else "SHOW server_version"
    try:
        async with open_connection(engine) as connection:
            async with connection.begin():
                number = (await connection.execute(text(query))).scalar_one()
            revision = await read_revision(connection)
    except (DatabaseAway, DBAPIError, PoolTimeoutError, OSError) as exc:
        return DatabasePart(REVISION, away=describe_error(exc))
    return DatabasePart(REVISION, None, f"{'SQLite' if is_sqlite else 'PostgreSQL'} {number}", revision)
