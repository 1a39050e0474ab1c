"""A cluster of three primaries, real processes on loopback, from the embedded server's program."""

import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.up.valkey import find_free_port
from stream.redis.client import client
from tests.support.servers.sentinels import Node
from tests.support.waiting import until

PRIMARIES = 3
SLOTS = 16384
NODE_TIMEOUT_MS = 2000
QUIET_TIMEOUT_MS = 60_000
"""Without replicas nobody takes over, and a machine that stalls must not make nodes give each other up."""
MIGRATE_MS = 60_000


@dataclass(slots=True)
class Member:
    """One node: its process, a client of it alone, and its id in the cluster."""

    node: Node
    server: Redis
    id: str = ""

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.node.port}"

    async def ask(self, *words: Any) -> Any:
        """Run a command on this node."""
        command: Any = self.server.execute_command
        return await command(*words)

    async def forget(self, slot: int) -> bool:
        """Forget which node has the slot; return whether this node knew it."""
        try:
            await self.ask("CLUSTER DELSLOTS", slot)
        except RedisError:  # it is unassigned
            return False
        return True

    async def read_info(self) -> dict[str, str]:
        """Return the node's view of the cluster."""
        info: dict[str, str] = await self.ask("CLUSTER INFO")
        return info


@dataclass(frozen=True, slots=True)
class RedisCluster:
    """The nodes: the primaries of the start, then any replicas in the same order. `url` names two primaries."""

    url: str
    password: str = field(repr=False)
    members: Sequence[Member]

    async def find_owner(self, slot: int) -> Member:
        """Return the primary that most nodes name for the slot."""
        ports: list[int] = []
        for member in self.members:
            try:
                ranges = await member.ask("CLUSTER SLOTS")
            except RedisError:
                continue
            ports += [primary[1] for first, last, primary, *_ in ranges if first <= slot <= last]
        port = max(ports, key=ports.count)
        return next(member for member in self.members if member.node.port == port)

    async def find_epoch(self) -> int:
        """Return the number of the last fail-over: each further one has a larger one."""
        epochs = []
        for member in self.members:
            try:
                epochs.append(int((await member.read_info())["cluster_current_epoch"]))
            except RedisError:
                continue
        return max(epochs)

    async def agree(self) -> bool:
        """Whether each node knows all others, says that the cluster is up, and each replica has its primary."""
        for member in self.members:
            info = await member.read_info()
            if (info["cluster_state"], info["cluster_known_nodes"]) != ("ok", str(len(self.members))):
                return False
        infos = [await member.server.info("replication") for member in self.members]
        ups = [info["role"] == "slave" and info["master_link_status"] == "up" for info in infos]
        return ups.count(True) == len(self.members) - PRIMARIES

    async def is_replaced(self, slot: int, old: Member) -> None:
        """Return when another node has the slot and is a primary."""

        async def has_moved() -> bool:
            owner = await self.find_owner(slot)
            return owner is not old and str((await owner.server.info("replication"))["role"]) == "master"

        await until(has_moved)

    async def drop_slot(self, slot: int) -> bool:
        """Let each node forget who has the slot; return whether none of them knew. Their messages may cross."""
        knew = [await member.forget(slot) for member in self.members]
        return not any(knew)

    async def move_slot(self, slot: int, target: Member) -> None:
        """Move a slot with all of its keys, as `redis-cli --cluster reshard` does, but one key at a time."""
        source = await self.find_owner(slot)
        await target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        await source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
        while keys := await source.ask("CLUSTER GETKEYSINSLOT", slot, 1):
            host, port = target.address.split(":")
            await source.ask("MIGRATE", host, port, keys[0], 0, MIGRATE_MS, "AUTH", self.password)
        for member in (target, source, *self.members[:PRIMARIES]):
            await member.ask("CLUSTER SETSLOT", slot, "NODE", target.id)


@asynccontextmanager
async def open_disk(dead: Member, cluster: RedisCluster, folder: Path) -> AsyncIterator[Redis]:
    """A client of a server without a cluster, with the append-only file of a dead node; its files go to the folder."""
    node = Node(folder, find_free_port(), f"requirepass {cluster.password}\nappendonly yes\nsave ''\n")
    shutil.copytree(dead.node.folder / "appendonlydir", folder / "appendonlydir")
    async with node.run(), client(f"redis://:{cluster.password}@127.0.0.1:{node.port}") as server:
        yield server


@asynccontextmanager
async def run_cluster(folder: Path, *, replicas: bool = True) -> AsyncIterator[RedisCluster]:
    """Run the nodes, with a replica for each primary or without any, and give each primary a third of the slots."""
    password, node_timeout_ms = secrets.token_hex(8), NODE_TIMEOUT_MS if replicas else QUIET_TIMEOUT_MS
    ports = [(find_free_port(), find_free_port()) for _ in range(PRIMARIES * (1 + replicas))]
    config = (
        f"requirepass {password}\nmasterauth {password}\nappendonly yes\nsave ''\nrepl-diskless-sync-delay 0\n"
        f"cluster-enabled yes\ncluster-node-timeout {node_timeout_ms}\ncluster-replica-validity-factor 0\n"
        "cluster-require-full-coverage no\n"
    )
    async with AsyncExitStack() as stack:
        members = []
        for port, bus_port in ports:
            node = Node(folder / f"node-{port}", port, f"{config}cluster-port {bus_port}\n")
            await stack.enter_async_context(node.run())
            server = await stack.enter_async_context(client(f"redis://:{password}@127.0.0.1:{port}"))
            member = Member(node, server)
            member.id = (await member.ask("CLUSTER MYID")).decode()
            members.append(member)
        seeds = ",".join(member.address for member in members[1:3])
        cluster = RedisCluster(f"redis+cluster://:{password}@{seeds}", password, members)
        await _form(cluster, ports)
        yield cluster


async def _form(cluster: RedisCluster, ports: Sequence[tuple[int, int]]) -> None:
    first, *others = cluster.members
    for number, member in enumerate(cluster.members):
        await member.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
    for member, (port, bus_port) in zip(others, ports[1:], strict=True):
        assert port == member.node.port
        await first.ask("CLUSTER MEET", "127.0.0.1", port, bus_port)
    bounds = [number * SLOTS // PRIMARIES for number in range(PRIMARIES + 1)]
    for number, member in enumerate(cluster.members[:PRIMARIES]):
        await member.ask("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
    for primary, replica in zip(cluster.members, cluster.members[PRIMARIES:], strict=False):

        async def is_replica(primary: Member = primary, replica: Member = replica) -> bool:
            try:
                await replica.ask("CLUSTER REPLICATE", primary.id)
            except RedisError:  # it does not know the primary yet
                return False
            return True

        await until(is_replica)
    await until(cluster.agree)
