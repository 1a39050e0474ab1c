import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from ingest.link import Link
from ingest.packed import pack
from stream.connect import client
from stream.keys import Shard
from tests.events import body, entry


@pytest.fixture
async def link(valkey_url: str, shard: Shard) -> AsyncIterator[Link]:
    """A connection that has been open for longer than redis-py lets one be without asking for its health."""
    own = client(valkey_url)
    own.connection_pool.connection_kwargs["health_check_interval"] = 0.001
    link = await Link.open(own, shard.stream)
    yield link
    await link.close()
    await own.aclose()


async def connections(server: Redis) -> int:
    """How many were made so far."""
    found: Any = await server.info("stats")
    return int(found["total_connections_received"])


async def test_appends_need_no_connection_beside_their_own(server: Redis, link: Link, shard: Shard) -> None:
    """Two at a time, however long it has been open; each returns when its batch is on the stream."""
    before = await connections(server)
    batch = [pack(entry(body()))[1]]
    for number in range(1, 51):
        await asyncio.gather(link.append(batch, 5), link.append(batch, 5))
        assert await server.xlen(shard.stream) == 2 * number
    assert await connections(server) == before
