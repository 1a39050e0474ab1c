"""The kinds of a Redis outage, and the reasons that ingest may count for each."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.support.faults.network import disturb
from tests.support.faults.processes import freeze
from tests.support.faults.redis_outages import ProxiedRedis
from tests.support.faults.redis_server import (
    become_replica,
    block_by_script,
    deny,
    fail_snapshots,
    limit_memory,
    lose_replicas,
    pause_writes,
)

Outage = Callable[[ProxiedRedis], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def kill(redis: ProxiedRedis) -> AsyncIterator[None]:
    redis.kill()
    yield
    await redis.start()


@asynccontextmanager
async def stop(redis: ProxiedRedis) -> AsyncIterator[None]:
    with freeze(redis.pid):
        yield


def disturb_network(fault: str) -> Outage:
    @asynccontextmanager
    async def run(redis: ProxiedRedis) -> AsyncIterator[None]:
        with disturb(redis.proxy, fault):
            yield

    return run


OUTAGES: Mapping[str, tuple[tuple[str, ...], Outage]] = {
    "killed": (("away",), kill),
    "refusing connections": (("away",), disturb_network("cut")),
    "frozen": (("silent",), stop),
    "behind a network that passes nothing": (("silent",), disturb_network("freeze")),
    "swallowed replies": (("silent",), disturb_network("swallow")),
    "paused": (("silent",), pause_writes),
    "a replica": (("read-only",), become_replica),
    "without replicas": (("read-only",), lose_replicas),
    "out of memory": (("full", "memory"), limit_memory(1)),
    "without a disk": (("unwritable",), fail_snapshots),
    "denying the user": (("denied",), deny("evalsha")),
    "busy with a script": (("busy",), block_by_script),
}
