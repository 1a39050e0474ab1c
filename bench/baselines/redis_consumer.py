"""Baseline: a loop of XREADGROUP and XACK, the limit of Redis and redis-py.

``python -m bench.baselines.redis_consumer URL STREAM GROUP BATCH`` reads until it is ended.
"""

import asyncio
import sys
from typing import Any

import uvloop

from stream.redis.client import client


async def consume(url: str, stream: str, group: str, batch: int) -> None:
    """Read and ack for ever."""
    server = client(url)
    while True:
        reply: Any = await server.xreadgroup(group, "bench", {stream: ">"}, count=batch, block=1000)
        if reply:
            await server.xack(stream, group, *[entry_id for entry_id, _ in reply[0][1]])


if __name__ == "__main__":
    url, stream, group, batch = sys.argv[1:]
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(consume(url, stream, group, int(batch)))
