"""Order mode on a Redis Cluster: ingest, workers, and the entries of each event."""

import os
import shutil
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from console.queries.stats import gather_stats
from stream.keys import Shard
from stream.payload import choose_shard
from stream.redis.client import client
from tests.support.faults.redis_outages import read_metric
from tests.support.handlers import ordered
from tests.support.in_process import run_ingest
from tests.support.order.checker import read_report
from tests.support.processes import Process, quick_worker
from tests.support.samples.events import body
from tests.support.servers.clusters import RedisCluster

GROUP, SHARDS = "g", 4
HANDLER = f"{GROUP}=ordered:handle#concurrency=4&attempts=3&base=0.1&cap=0.1"
LONG_MS = 10_000

Sent = tuple[str, int]
"""A message, and the number of its event."""


@dataclass(slots=True)
class OrderedSystem:
    """A cluster, an ingest process and workers in order mode."""

    cluster: RedisCluster
    server: Redis
    shards: Sequence[Shard]
    folder: Path
    url: str
    running: ExitStack
    workers: list[Process]
    accepted: list[Sent] = field(default_factory=list)

    def slot(self, number: int) -> int:
        return key_slot(self.shards[number].stream.encode())

    async def post(self, http: aiohttp.ClientSession, message: str, number: int, **more: Any) -> int:
        """Send an event; return the status of the answer."""
        payload = body(message_uuid=message, client_ref=str(number), **more)
        async with http.post(self.url, data=payload) as answer:
            if answer.status == 200:
                self.accepted.append((message, number))
            return answer.status

    async def read_entries(self, numbers: Collection[int] = range(SHARDS)) -> dict[Sent, list[tuple[int, str]]]:
        """Return the shard and the id of the entries of each event on these shards."""
        places: dict[Sent, list[tuple[int, str]]] = {}
        for shard in map(self.shards.__getitem__, numbers):
            for entry_id, sent in await read_stream(self.server, shard):
                places.setdefault(sent, []).append((shard.number, entry_id))
        return places

    async def are_handled(self, names: Mapping[int, str], number: int) -> bool:
        """Whether the event with this number of each message is handled; the messages are given by their shards."""
        places, handled = await self.read_entries(names), read_report(self.folder).handled
        return all(handled & name_entries(places.get((name, number), ())) for name in names.values())

    async def is_settled(self) -> bool:
        """Whether the spool is empty, and the group has nothing left."""
        try:
            stats = (await gather_stats(self.server, self.shards))["groups"][GROUP]
        except RedisError:  # a node that has just started
            return False
        return not read_metric("spool_entries") and not stats["outstanding"]


async def read_stream(server: Redis, shard: Shard) -> list[tuple[str, Sent]]:
    """Return the entries of a shard with their messages and numbers."""
    entries: Any = await server.xrange(shard.stream)
    payloads = [(entry_id.decode(), orjson.loads(fields[b"payload"])) for entry_id, fields in entries]
    return [(entry_id, (status["message_uuid"], int(status["client_ref"]))) for entry_id, status in payloads]


@asynccontextmanager
async def run_system(
    cluster: RedisCluster,
    shard: Shard,
    folder: Path,
    workers: int,
    *,
    lost: int | None = None,
    pace: float = 1,
    **more: Any,
) -> AsyncIterator[OrderedSystem]:
    """Run ingest, and the workers at this pace, until the block ends; first kill the node of the lost shard, if any."""
    shutil.copy(ordered.__file__, folder)
    common: dict[str, Any] = {"redis_url": cluster.url, "stream": shard.name, "order": "message"}
    async with client(cluster.url) as server:
        await server.set(shard.layout, f"{SHARDS} {SHARDS} 0")  # long ago, so repeats are on the shard of the event
        if lost is not None:
            (await cluster.find_owner(key_slot(Shard(shard.name, lost).stream.encode()))).node.kill()
        with ExitStack() as running:
            started = [running.enter_context(quick_worker(pace, HANDLER, folder, common)) for _ in range(workers)]
            more = {"ack_budget_ms": LONG_MS, **more}  # no append to a node that is there goes to the spool
            async with run_ingest(**common, data=folder, **more) as ingest:
                shards = [Shard(shard.name, number) for number in range(SHARDS)]
                yield OrderedSystem(cluster, server, shards, folder, ingest.url, running, started)


@asynccontextmanager
async def open_http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as http:
        yield http


def name_entries(entries: Sequence[tuple[int, str]]) -> set[str]:
    """Return entries as the handler names them."""
    return {f"{number}/{entry_id}" for number, entry_id in entries}


def find_scattered(places: Mapping[Sent, Sequence[tuple[int, str]]]) -> Collection[str]:
    """Return the messages that have entries on another shard than theirs."""
    return {
        message
        for (message, _), entries in places.items()
        for number, _ in entries
        if number != choose_shard(body(message_uuid=message), SHARDS)
    }


def choose_messages(kind: str = "ok") -> Mapping[int, str]:
    """Return a message of each shard; events of ``bad`` ones fail (support/handlers/ordered.py)."""
    names: dict[int, str] = {}
    while len(names) < SHARDS:
        name = f"{kind}-{os.urandom(4).hex()}"
        names.setdefault(choose_shard(body(message_uuid=name), SHARDS), name)
    return names
