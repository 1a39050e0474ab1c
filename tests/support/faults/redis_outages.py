"""Outages of a real Redis behind a proxy, for the tests of ingest."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.entry import Entry
from stream.keys import Shard
from stream.redis.client import client
from tests.support.processes import Valkey
from tests.support.samples.events import body
from tests.support.servers.proxy import Proxy, run_proxy, through
from tests.support.waiting import PATIENCE_SECONDS, until


@dataclass(slots=True)
class ProxiedRedis:
    """A Valkey of its own behind a proxy."""

    valkey: Valkey
    proxy: Proxy
    server: Redis
    """A client that goes past the proxy."""
    shard: Shard
    pid: int = 0
    frozen: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that lead ingest to the proxy."""
        return {"redis_url": through(self.proxy, self.valkey.url), "stream": self.shard.name}

    async def start(self) -> None:
        """Start it again after ``kill``."""
        await self.valkey.start()
        await self.look()

    async def look(self) -> None:
        self.pid = (await self.server.info("server"))["process_id"]

    def kill(self) -> None:
        self.valkey.kill()

    def freeze(self) -> None:
        """Stop the process where it is: its kernel takes connections and bytes, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self.frozen = False

    async def run_command(self, *words: Any) -> Any:
        execute: Any = self.server.execute_command
        return await execute(*words)

    async def is_probed(self, times: int) -> None:
        """Return when ingest has asked so often more whether the server is fit."""
        await self.run_command("CONFIG RESETSTAT")

        async def so() -> bool:
            asked = (await self.server.info("commandstats")).get("cmdstat_command|info", {"calls": 0})
            return bool(asked["calls"] >= times)

        await until(so)

    async def entries(self) -> list[Entry]:
        """All that is on the stream."""
        entries: Any = await self.server.xrange(self.shard.stream)
        return [Entry.from_fields(fields) for _, fields in entries]

    async def ids(self) -> list[str]:
        """The message ids of all that is on the stream."""
        return [orjson.loads(entry.payload)["message_uuid"] for entry in await self.entries()]

    async def has(self, ids: Sequence[str], *, seconds: float = PATIENCE_SECONDS) -> None:
        """Return when all these messages are on the stream."""

        async def all_are() -> bool:
            with suppress(RedisError):  # it may still be on its way back
                return set(ids) <= set(await self.ids())
            return False

        await until(all_are, seconds=seconds)


@asynccontextmanager
async def run_proxied_redis(folder: Path, shard: Shard) -> AsyncIterator[ProxiedRedis]:
    """Run one for the length of the block."""
    async with AsyncExitStack() as stack:
        valkey = await stack.enter_async_context(Valkey(folder).run())
        server = client(valkey.url)
        stack.push_async_callback(server.aclose)
        proxy = await stack.enter_async_context(run_proxy(urlsplit(valkey.url).port or 0))
        away = ProxiedRedis(valkey, proxy, server, shard)
        await away.look()
        try:
            yield away
        finally:
            if away.frozen:
                away.thaw()


@dataclass(slots=True)
class Sender:
    """Sends messages of its own, one after the other or at once, and remembers those that were answered 200."""

    http: aiohttp.ClientSession
    url: str
    accepted_ids: list[str] = field(default_factory=list)
    sent: int = 0

    async def post(self) -> int:
        """Send one; the status of its answer."""
        self.sent += 1
        message_uuid = f"m-{self.sent}"
        async with self.http.post(self.url, data=body(message_uuid=message_uuid)) as answer:
            if answer.status == 200:
                self.accepted_ids.append(message_uuid)
            return answer.status

    async def posts(self, number: int) -> list[int]:
        """Send this number of webhooks at once."""
        return await asyncio.gather(*(self.post() for _ in range(number)))


@asynccontextmanager
async def open_sender(url: str) -> AsyncIterator[Sender]:
    """Send to this URL for the length of the block."""
    async with aiohttp.ClientSession() as http:
        yield Sender(http, url)


def read_metric(name: str, **labels: str) -> float:
    """The value that this process's metric has now."""
    sample = f"ackstream_{name}"  # the other metrics of the registry take far more time
    metrics = REGISTRY.restricted_registry([sample]).collect()
    return next((found.value for metric in metrics for found in metric.samples if found.labels == labels), 0.0)


async def is_open(*, seconds: float = PATIENCE_SECONDS) -> None:
    """Return when this process's ingest gives its entries to Redis and its spool is empty."""

    async def so() -> bool:
        return read_metric("breaker_state") == 0 and read_metric("spool_entries") == 0

    await until(so, seconds=seconds)
