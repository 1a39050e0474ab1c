import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from ingest.append.circuit_breaker import Breaker
from ingest.append.connection import Link
from ingest.append.redis_writer import Way
from ingest.append.server_checks import Fitness
from ingest.encoding import pack
from stream.keys import Shard
from stream.redis.client import client
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


async def test_a_probe_that_is_given_up_closes_its_connection(server: Redis, shard: Shard) -> None:
    """When ingest stops at that moment nobody else would."""
    way = Way(server, shard.stream, Fitness(server, "stream"), Breaker(time.monotonic, random.uniform))
    fed: asyncio.Future[Link] = asyncio.get_running_loop().create_future()

    async def feed(link: Link) -> None:
        fed.set_result(link)
        await asyncio.Event().wait()

    probing = asyncio.create_task(way.probe(feed))
    link = await asyncio.wait_for(fed, 5)
    probing.cancel()
    await asyncio.wait([probing])
    assert not way.is_open
    with pytest.raises(RedisConnectionError):
        await link.append([pack(entry(body()))[1]], 5)
