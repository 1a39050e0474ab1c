"""A primary, two replicas and three sentinels, real processes on loopback, from the embedded server's program."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from console.up.valkey import find_binary, find_free_port
from stream.redis.client import client
from tests.support.processes import Process, Server, becomes
from tests.support.waiting import until

SERVICE = "statuses"
DOWN_AFTER_SECONDS = 1.0
REPLICAS = 2
SENTINELS = 3


class Node(Server):
    """One Valkey, a server or a sentinel."""

    def __init__(self, folder: Path, port: int, config: str, *arguments: str) -> None:
        folder.mkdir()
        self.folder, self.port = folder, port
        (folder / "node.conf").write_text(f"bind 127.0.0.1\nport {port}\n{config}")
        super().__init__((find_binary(), str(folder / "node.conf"), *arguments), folder)

    async def _is_ready(self, process: Process) -> None:
        def has_begun() -> bool:
            return "Ready to accept connections" in process.said or "Sentinel ID is" in process.said

        await becomes(lambda: process.lives() and has_begun())


@dataclass(frozen=True, slots=True)
class Watched:
    """The servers and sentinels. `url` leads to the current primary; `sentinel` is a client of one sentinel."""

    url: str
    nodes: dict[int, Node]
    sentinel: Redis
    password: str

    async def primary(self) -> Node:
        """The server that the sentinels name."""
        ask: Any = self.sentinel.execute_command
        return self.nodes[(await ask("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE))[1]]

    @asynccontextmanager
    async def directly(self, node: Node) -> AsyncIterator[Redis]:
        """A client of this server, primary or replica."""
        server = client(f"redis://:{self.password}@127.0.0.1:{node.port}")
        try:
            yield server
        finally:
            await server.aclose()

    async def find_epoch(self) -> int:
        """The number of the last fail-over: each further one has a larger one."""
        masters: Any = await self.sentinel.sentinel_masters()
        return int(masters[SERVICE]["config-epoch"])

    async def is_another(self, than: Node) -> None:
        """Return when the sentinels name another server, and it takes writes."""

        async def has_moved() -> bool:
            named = await self.primary()
            async with self.directly(named) as server:
                return named is not than and str((await server.info("replication"))["role"]) == "master"

        await until(has_moved)

    async def agree(self) -> bool:
        """Whether all sentinels know all servers, so that a fail-over can start."""
        masters: Any = await self.sentinel.sentinel_masters()
        status = masters[SERVICE]
        async with self.directly(await self.primary()) as server:
            connected = int((await server.info("replication"))["connected_slaves"])
        sentinels, replicas = int(status["num-other-sentinels"]), int(status["num-slaves"])
        return (sentinels, replicas, connected) == (SENTINELS - 1, REPLICAS, REPLICAS)


@asynccontextmanager
async def run_sentinels(folder: Path, *, least_replicas: int = 0) -> AsyncIterator[Watched]:
    """Run the servers; the primary takes writes only with this number of replicas."""
    password, sentinel_password = secrets.token_hex(8), secrets.token_hex(8)
    ports = [find_free_port() for _ in range(1 + REPLICAS + SENTINELS)]
    first, server_ports, sentinel_ports = ports[0], ports[: 1 + REPLICAS], ports[1 + REPLICAS :]
    serving = (
        f"requirepass {password}\nmasterauth {password}\nappendonly yes\nsave ''\nrepl-diskless-sync-delay 0\n"
        f"min-replicas-to-write {least_replicas}\n"
    )
    watching = (
        f"requirepass {sentinel_password}\nsentinel sentinel-pass {sentinel_password}\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {first} 2\n"
        f"sentinel auth-pass {SERVICE} {password}\nsentinel failover-timeout {SERVICE} 6000\n"
        f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_SECONDS * 1000:.0f}\n"
    )
    nodes = {
        port: Node(
            folder / f"server-{port}", port, serving + ("" if port == first else f"replicaof 127.0.0.1 {first}\n")
        )
        for port in server_ports
    }
    sentinels = [Node(folder / f"sentinel-{port}", port, watching, "--sentinel") for port in sentinel_ports]
    hosts = ",".join(f"127.0.0.1:{port}" for port in sentinel_ports)
    sentinel = client(f"redis://:{sentinel_password}@127.0.0.1:{sentinel_ports[0]}")
    try:
        async with AsyncExitStack() as stack:
            for node in (*nodes.values(), *sentinels):
                await stack.enter_async_context(node.run())
            url = f"redis+sentinel://:{password}@{hosts}/{SERVICE}/0?sentinel_password={sentinel_password}"
            site = Watched(url, nodes, sentinel, password)
            await until(site.agree)
            yield site
    finally:
        await sentinel.aclose()
