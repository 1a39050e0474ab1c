"""The client of a cluster: sends each command to the node that has the slot of its keys.

It is used like the client of one server, because all keys of a command or script are in one slot; the commands of a
pipeline may be in several. Each slot in use has its own pool, whose connections lead to one node. redis-py's own
RedisCluster would send commands again after errors; here the caller decides, as everywhere (stream.redis.client).

A command without a key goes to the node of shard 0. Code that means a node, such as for its memory, asks for it with
`list_nodes` or `at_key`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import ConnectionPool
from redis.commands.core import AsyncScript
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runtime.tasks import cancel_and_wait
from stream.keys import Shard
from stream.redis.cluster_nodes import ClusterNodes, SlotLocator
from stream.redis.errors import BUSY, identify_fault, quote_reason
from stream.redis.limited_client import Client
from stream.redis.primary import PrimaryPool

HOME = key_slot(b"0")
"""The slot of shard 0."""

FURTHER_SECONDS = 1.0

LOST = (RedisConnectionError, RedisTimeoutError)
"""Errors of a node that is away, or does not have the slot."""
Answer = TypeVar("Answer")

_KEYLESS = frozenset(
    ("ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "INFO", "PING", "SCAN", "SCRIPT", "TIME", "WAIT")
)


@dataclass(frozen=True, slots=True)
class AwayShard:
    """A shard of a cluster that does not answer."""

    shard: int
    node: str | None
    """The address of the node that has it; None if no node has its slot."""
    reason: str
    """Why, in the words of Redis or of the operating system."""


class ClusterPool(ConnectionPool):
    """The pools of all slots in use. It has no connections of its own."""

    def __init__(self, kind: Any, nodes: ClusterNodes, **options: Any) -> None:
        super().__init__(kind, **options)
        self.nodes = nodes
        self._kind = kind
        self._options = options
        self._pools: dict[int, PrimaryPool] = {}

    def at_slot(self, slot: int) -> PrimaryPool:
        """Return the pool of connections to the node that has this slot."""
        if slot not in self._pools:
            self._pools[slot] = PrimaryPool(self._kind, locator=SlotLocator(self.nodes, slot), **self._options)
        return self._pools[slot]

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Disconnect the connections to all nodes, or only the idle ones."""
        for pool in self._pools.values():
            await pool.disconnect(inuse_connections)


class ClusterClient(Client):
    """A client that sends each command to the node that has its keys."""

    def __init__(self, pool: ClusterPool) -> None:
        super().__init__(connection_pool=pool)
        self._pool = pool
        self._clients: dict[int, Client] = {}

    def at_slot(self, slot: int) -> Client:
        """Return a client of the node that has this slot. It has the pool and the callbacks of this client."""
        if slot not in self._clients:
            client = Client(connection_pool=self._pool.at_slot(slot))
            client.response_callbacks = self.response_callbacks
            client.limit_seconds = self.limit_seconds
            self._clients[slot] = client
        return self._clients[slot]

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command on the node that has its key. Raises RedisError."""
        return await self.at_slot(find_slot(args)).execute_command(*args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "ClusterPipeline":
        """Return a pipeline; a transaction is one for the commands of each slot."""
        return ClusterPipeline(self, transaction, shard_hint)

    def register_script(self, script: Any) -> AsyncScript:  # type: ignore[override]  # redis-py types `self`
        """Return a script that runs on the node that has its keys."""
        return ClusterScript(self, script)


class ClusterScript(AsyncScript):
    """A script that is loaded and run on the node that has its keys."""

    async def __call__(self, keys: Any = None, args: Any = None, client: Any = None) -> Any:
        """Run the script. Raises RedisError."""
        client = self.registered_client if client is None else client
        if isinstance(client, ClusterClient):
            client = client.at_slot(_slot_of(keys[0]) if keys else HOME)
        return await super().__call__(keys, args, client)


class ClusterPipeline(Pipeline):
    """A pipeline whose commands are sent to the nodes that have their keys, all nodes at the same time."""

    def __init__(self, client: ClusterClient, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Return the replies in the order of the commands. Raises RedisError if a node does not answer."""
        positions: dict[int, list[int]] = {}
        for position, (args, _) in enumerate(self.command_stack):
            positions.setdefault(find_slot(args), []).append(position)
        parts = await asyncio.gather(
            *(self._execute_part(slot, part, raise_on_error) for slot, part in positions.items()),
            return_exceptions=True,
        )
        await self.reset()  # type: ignore[no-untyped-call]
        replies: dict[int, Any] = {}
        for part, result in zip(positions.values(), parts, strict=True):
            if isinstance(result, BaseException):
                raise result
            replies |= zip(part, result, strict=True)
        return [replies[position] for position in range(len(replies))]

    async def _execute_part(self, slot: int, positions: Iterable[int], raise_on_error: bool) -> list[Any]:
        async with self._client.at_slot(slot).pipeline(self.is_transaction) as pipe:
            pipe.scripts = set(self.scripts)
            for position in positions:
                args, options = self.command_stack[position]
                pipe.pipeline_execute_command(*args, **options)  # type: ignore[no-untyped-call]
            return await pipe.execute(raise_on_error)


def find_slot(args: Sequence[Any]) -> int:
    """Return the slot of the keys of a command, as redis-py gives its arguments; HOME for one without keys."""
    name = args[0].decode() if isinstance(args[0], bytes) else args[0]
    first = name.split()[0].upper()
    if first in _KEYLESS:
        return HOME
    if first in {"EVAL", "EVALSHA"}:
        return _slot_of(args[3]) if int(args[2]) else HOME
    if first in {"XREAD", "XREADGROUP"}:
        return _slot_of(args[args.index(b"STREAMS") + 1])
    return _slot_of(args[1])


def is_lost(error: BaseException) -> bool:
    """Whether a node is away, does not have the slot, or executes no command while a script runs."""
    return isinstance(error, LOST) or identify_fault(error) is BUSY


def is_cluster(server: Redis) -> bool:
    """Whether this is the client of a cluster."""
    return isinstance(server, ClusterClient)


def at_key(server: Redis, key: str) -> Redis:
    """Return a client of the node that has this key: of one server the same client."""
    return at_slot(server, _slot_of(key))


def at_slot(server: Redis, slot: int) -> Redis:
    """Return a client of the node that has this slot: of one server the same client."""
    return server.at_slot(slot) if isinstance(server, ClusterClient) else server


async def find_nodes(server: Redis, keys: Collection[str]) -> dict[str, str]:
    """Return the address of the node that has each key. Raises RedisError.

    It is empty for a key whose slot has no node, and for every key of one server without a cluster.
    """
    if not isinstance(server, ClusterClient):
        return dict.fromkeys(keys, "")
    pool: Any = server.connection_pool
    owners = await pool.nodes.find_owners([_slot_of(key) for key in keys])
    return {key: ":".join(map(str, hosts[0])) if hosts else "" for key, hosts in zip(keys, owners, strict=True)}


async def list_nodes(server: Redis, keys: Collection[str]) -> dict[str, Redis]:
    """Return a client of each node that has one of the keys, by the node's address. Raises RedisError.

    Without a cluster this is the same client, under an empty address.
    """
    nodes: dict[str, Redis] = {}
    for key, address in (await find_nodes(server, keys)).items():
        if address or not is_cluster(server):
            nodes.setdefault(address, at_key(server, key))
    return nodes


async def ask_shards(
    server: Redis, shards: Sequence[Shard], ask: Callable[[Shard], Awaitable[Answer]]
) -> dict[Shard, Answer]:
    """Return the answer for each shard; of a cluster only for the shards whose nodes answer, asked at the same time.

    Once there is an answer, it waits FURTHER_SECONDS for each further one. Raises RedisError if no node answers, or for
    any other error.
    """
    return (await _ask_each(server, shards, ask, FURTHER_SECONDS))[0]


async def ask_answering(
    server: Redis, shards: Sequence[Shard], ask: Callable[[Shard], Awaitable[Answer]]
) -> tuple[dict[Shard, Answer], Sequence[AwayShard]]:
    """Return the same, and the shards that do not answer, however long that takes. Raises as ``ask_shards``."""
    answers, errors = await _ask_each(server, shards, ask)
    return answers, await locate_shards(server, errors)


async def _ask_each(
    server: Redis,
    shards: Sequence[Shard],
    ask: Callable[[Shard], Awaitable[Answer]],
    further_seconds: float | None = None,
) -> tuple[dict[Shard, Answer], dict[Shard, BaseException]]:
    if not is_cluster(server):
        return {shard: await ask(shard) for shard in shards}, {}
    shards = tuple(shards)
    replies = await _gather(map(ask, shards), further_seconds)
    errors = [reply for reply in replies if isinstance(reply, BaseException)]
    for error in errors:
        if len(errors) == len(shards) or not is_lost(error):
            raise error
    pairs = list(zip(shards, replies, strict=True))
    return (
        {shard: reply for shard, reply in pairs if not isinstance(reply, BaseException)},
        {shard: reply for shard, reply in pairs if isinstance(reply, BaseException)},
    )


async def _gather(asks: Iterable[Awaitable[Answer]], further_seconds: float | None) -> Sequence[Answer | BaseException]:
    """Return answers and errors. Once there is an answer, wait only so long for each further one."""
    tasks = [asyncio.ensure_future(ask) for ask in asks]
    pending, seconds = set(tasks), None
    try:
        while pending:
            done, pending = await asyncio.wait(pending, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            if not all(task.exception() for task in done):
                seconds = further_seconds
    finally:
        await cancel_and_wait(pending)
    return [RedisTimeoutError() if task.cancelled() else task.exception() or task.result() for task in tasks]


async def split_shards(server: Redis, shards: Sequence[Shard]) -> tuple[Sequence[Shard], Sequence[AwayShard]]:
    """Return the shards that answer, and those of a cluster that do not.

    Raises RedisError if none answers, or for any other error.
    """
    if not is_cluster(server):
        return shards, ()
    answers, away = await ask_answering(server, shards, lambda shard: server.exists(shard.stream))
    return list(answers), away


async def locate_shards(server: Redis, errors: Mapping[Shard, BaseException]) -> Sequence[AwayShard]:
    """Return shards that do not answer, and their errors, with their nodes. Raises RedisError."""
    nodes = await find_nodes(server, [shard.stream for shard in errors]) if errors else {}
    return tuple(
        AwayShard(shard.number, nodes[shard.stream] or None, quote_reason(error)) for shard, error in errors.items()
    )


async def find_gaps(server: Redis) -> tuple[Sequence[str], int]:
    """Return the primaries of a cluster that do not answer, and how many slots have no primary. Raises RedisError."""
    pool: Any = server.connection_pool
    ranges = sorted(await pool.nodes.find_ranges())
    slots = {host: first for first, _, host in ranges}
    pings = (at_slot(server, slot).ping() for slot in slots.values())
    replies = await asyncio.gather(*pings, return_exceptions=True)
    away = [f"{host}:{port}" for (host, port), reply in zip(slots, replies, strict=True) if isinstance(reply, LOST)]
    return away, REDIS_CLUSTER_HASH_SLOTS - sum(last - first + 1 for first, last, _ in ranges)


def _slot_of(key: Any) -> int:
    return key_slot(key if isinstance(key, bytes) else str(key).encode())
