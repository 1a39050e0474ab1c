"""The faults of a real Valkey that a worker meets, and how the worker must judge each."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.keys import Shard
from stream.redis.client import ServerUnfit
from stream.redis.errors import (
    BUSY,
    DENIED,
    MAX_CLIENTS,
    READ_ONLY,
    SILENT,
    UNSUPPORTED,
    UNWRITABLE,
    WRONG_TYPE,
    RedisFault,
)
from tests.support.faults import processes
from tests.support.faults.redis_server import (
    become_replica,
    block_by_script,
    deny,
    fail_snapshots,
    limit_memory,
    lose_replicas,
    make_fault,
)


@dataclass(frozen=True, slots=True)
class FaultyValkey:
    """A Valkey that the test may harm: a client that is logged in, its URL, its folder, and a stream on it."""

    server: Redis
    url: str
    folder: Path
    shard: Shard

    async def run_command(self, *words: str | int) -> Any:
        execute: Any = self.server.execute_command
        return await execute(*words)

    async def disconnect_others(self) -> None:
        """Disconnect all other clients, which then log in again."""
        await self.run_command("CLIENT KILL", "TYPE", "normal", "SKIPME", "yes")


@asynccontextmanager
async def replace_stream(valkey: FaultyValkey) -> AsyncIterator[None]:
    """The key of the stream has a value of another type."""
    stream = valkey.shard.stream
    await valkey.server.rename(stream, f"{stream}:aside")
    await valkey.server.set(stream, "no stream")
    yield
    await valkey.server.rename(f"{stream}:aside", stream)


@asynccontextmanager
async def change_password(valkey: FaultyValkey) -> AsyncIterator[None]:
    """The password is another one, and all clients have to log in again."""
    password = urlsplit(valkey.url).password or ""
    await valkey.run_command("CONFIG SET", "requirepass", "another")
    await valkey.disconnect_others()
    yield
    await valkey.run_command("CONFIG SET", "requirepass", password)


@asynccontextmanager
async def refuse_clients(valkey: FaultyValkey) -> AsyncIterator[None]:
    """It accepts no more clients, and has disconnected the others."""
    async with make_fault(("CONFIG SET", "maxclients", 1), ("CONFIG SET", "maxclients", 1000))(valkey):
        await valkey.disconnect_others()
        yield


@asynccontextmanager
async def freeze(valkey: FaultyValkey) -> AsyncIterator[None]:
    """Its process is stopped: connections are open, and nothing comes."""
    with processes.freeze(int((await valkey.server.info("server"))["process_id"])):
        yield


@asynccontextmanager
async def fill(valkey: FaultyValkey) -> AsyncIterator[None]:
    """The server has no free memory. Groups can still be read and acked, so a worker sees no fault."""
    used_bytes = int((await valkey.server.info("memory"))["used_memory"])
    async with limit_memory(used_bytes // 2)(valkey):
        yield


FAULTS: Mapping[str, tuple[RedisFault, Callable[[FaultyValkey], AbstractAsyncContextManager[None]]]] = {
    "a replica": (READ_ONLY, become_replica),
    "without replicas": (READ_ONLY, lose_replicas),
    "unwritable": (UNWRITABLE, fail_snapshots),
    "busy": (BUSY, block_by_script),
    "another type": (WRONG_TYPE, replace_stream),
    "another password": (DENIED, change_password),
    "no right to read": (DENIED, deny("xreadgroup")),
    "no right to ask": (UNSUPPORTED, deny("command", "xreadgroup")),
    "too many clients": (MAX_CLIENTS, refuse_clients),
    "frozen": (SILENT, freeze),
}


async def catch_error(act: Awaitable[Any]) -> Exception:
    with pytest.raises((RedisError, OSError, ServerUnfit)) as caught:
        await act
    return caught.value
