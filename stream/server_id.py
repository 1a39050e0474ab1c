"""The id of a Redis server: a random string under a key of the stream, written once by the first ingest process.

The id is as durable as the stream. It moves with the data to a replica, or from a backup to another machine. A server
that lost its data has no id, and takes the one that the next ingest process proposes.
"""

from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from stream.keys import Shard

log = structlog.get_logger("server_id")


async def ensure_server_id(server: Redis, shard: Shard, proposed: str) -> str | None:
    """Return the server's id; a server without one takes the proposed id. None if the user lacks the rights.

    Raises RedisError or OSError if Redis does not answer.
    """
    try:
        await server.setnx(shard.server_id, proposed)
    except NoPermissionError:
        log.warning("server_id.denied", key=shard.server_id, what="allow this user SETNX and GET on this key")
        return None
    return await read_server_id(server, shard)


async def read_server_id(server: Redis, shard: Shard) -> str | None:
    """Return the server's id; None if it has none or the user lacks the rights. Raises RedisError or OSError."""
    try:
        server_id: Any = await server.get(shard.server_id)
    except NoPermissionError:
        return None
    return None if server_id is None else str(server_id, errors="replace")
