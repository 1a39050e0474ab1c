"""Read the versions and the durability of Redis and of the database."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.append.server_checks import POLICY, REQUIRED, find_shortcomings
from stream.keys import Shard
from stream.redis.client import limit_wait
from stream.redis.cluster import list_nodes
from stream.redis.errors import SLOT_DOWN, identify_fault, is_denied
from stream.redis.limited_client import REPLY_SECONDS
from worker.database_fault import describe_database_fault
from worker.store.database import DatabaseAway, open_connection
from worker.store.revision import read_revision
from worker.store.tables import REVISION

NODE_SECONDS = 0.5
"""A page shows a node of a cluster that takes longer as one that does not answer."""


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

    @classmethod
    def merge(cls, nodes: Sequence[Self]) -> Self:
        """Return the state of a cluster: all versions, the least durable, the fullest, and the fewest replicas."""
        parts = [node for node in nodes if node.away is None]
        if not parts:
            return nodes[0]
        fullest = max(parts, key=lambda node: (node.memory_used or 0) / node.memory_max if node.memory_max else 0.0)
        replicas = [node.replicas for node in parts]
        durable = [node.durable for node in parts]
        return cls(
            version=", ".join(sorted({node.version for node in parts if node.version})) or None,
            durable=None if None in durable else all(durable),
            shortcomings=tuple(dict.fromkeys(text for node in parts for text in node.shortcomings)),
            memory_used=fullest.memory_used,
            memory_max=fullest.memory_max,
            replicas=None if None in replicas else min(number or 0 for number in replicas),
        )


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


async def read_nodes(server: Redis, shards: Sequence[Shard]) -> dict[str, RedisPart]:
    """Return the state of each node that has a shard by its address, also if it does not answer.

    Without a cluster this is the server, under an empty address.
    """
    try:
        nodes = await list_nodes(server, [shard.stream for shard in shards])
    except RedisError as exc:
        return {"": RedisPart(away=identify_fault(exc).sentence)}
    if not nodes:
        return {"": RedisPart(away=SLOT_DOWN.sentence)}
    limits = (NODE_SECONDS if address else REPLY_SECONDS for address in nodes)
    return dict(zip(nodes, await asyncio.gather(*map(_read_node, nodes.values(), limits)), strict=True))


async def _read_node(server: Redis, seconds: float) -> RedisPart:
    try:
        async with limit_wait(seconds):
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
    except ResponseError as exc:
        if not is_denied(exc):
            raise
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
        return DatabasePart(REVISION, away=describe_database_fault(exc))
    return DatabasePart(REVISION, None, f"{'SQLite' if is_sqlite else 'PostgreSQL'} {number}", revision)
