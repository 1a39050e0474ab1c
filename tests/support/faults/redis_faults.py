"""Faults of a real Valkey: each lasts for a block and is then repaired."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stream.keys import Shard
from stream.redis.client import ServerUnfit, client
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
from tests.support.waiting import until

Inflict = Callable[["FaultyValkey"], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class FaultyValkey:
    """A Valkey that the test may harm: a client that is logged in, its URL, its folder, and a stream on it."""

    server: Redis
    url: str
    folder: Path
    shard: Shard

    async def do(self, *words: str | int) -> Any:
        """Execute one command."""
        do: Any = self.server.execute_command
        return await do(*words)

    async def configure(self, name: str, value: str | int) -> None:
        await self.do("CONFIG SET", name, value)

    async def disconnect_others(self) -> None:
        """Make everybody else log in again."""
        await self.do("CLIENT KILL", "TYPE", "normal", "SKIPME", "yes")

    async def pid(self) -> int:
        return int((await self.server.info("server"))["process_id"])


@dataclass(frozen=True, slots=True)
class ValkeyFault:
    """A fault, and how a worker must judge it."""

    name: str
    trouble: RedisFault
    inflicted: Inflict


FAULTS: list[ValkeyFault] = []


def fault(trouble: RedisFault) -> Callable[[Callable[[FaultyValkey], AsyncIterator[None]]], Inflict]:
    """Put a fault into the table."""

    def put(inflict: Callable[[FaultyValkey], AsyncIterator[None]]) -> Inflict:
        inflicted = asynccontextmanager(inflict)
        FAULTS.append(ValkeyFault(inflict.__name__, trouble, inflicted))
        return inflicted

    return put


@fault(READ_ONLY)
async def replica(site: FaultyValkey) -> AsyncIterator[None]:
    """It is a replica now, of a server that is not there."""
    await site.do("REPLICAOF", "127.0.0.1", 1)
    yield
    await site.do("REPLICAOF", "NO", "ONE")


@fault(READ_ONLY)
async def without_replicas(site: FaultyValkey) -> AsyncIterator[None]:
    """It wants a replica before it takes writes, and has none."""
    await site.configure("min-replicas-to-write", 1)
    yield
    await site.configure("min-replicas-to-write", 0)


@fault(UNWRITABLE)
async def unwritable(site: FaultyValkey) -> AsyncIterator[None]:
    """It cannot write its snapshot, and so refuses every write (stop-writes-on-bgsave-error)."""

    async def has_status(status: str) -> bool:
        return str((await site.server.info("persistence"))["rdb_last_bgsave_status"]) == status

    await site.configure("save", "3600 1")
    (site.folder / "dump.rdb").mkdir()
    await site.do("BGSAVE")
    await until(lambda: has_status("err"))
    yield
    (site.folder / "dump.rdb").rmdir()
    await site.do("BGSAVE")
    await until(lambda: has_status("ok"))
    await site.configure("save", "")


@fault(BUSY)
async def busy(site: FaultyValkey) -> AsyncIterator[None]:
    """Somebody's script does not end."""
    await site.configure("busy-reply-threshold", 50)
    culprit = client(site.url, reply_seconds=60)
    culprit.limit_seconds = 60.0  # type: ignore[attr-defined]
    looping: Any = asyncio.ensure_future(culprit.eval("while true do end", 0))

    async def refuses() -> bool:
        with suppress(RedisError):
            return not await site.server.ping()
        return True

    try:
        await until(refuses)
        yield
        await site.do("SCRIPT KILL")
        await asyncio.gather(looping, return_exceptions=True)
    finally:
        looping.cancel()
        await culprit.aclose()


@fault(WRONG_TYPE)
async def replaced(site: FaultyValkey) -> AsyncIterator[None]:
    """The key of the stream has a value of another type."""
    await site.server.rename(site.shard.stream, f"{site.shard.stream}:aside")
    await site.server.set(site.shard.stream, "no stream")
    yield
    await site.server.rename(f"{site.shard.stream}:aside", site.shard.stream)


@fault(DENIED)
async def another_password(site: FaultyValkey) -> AsyncIterator[None]:
    """The password is another one, and everybody has to log in again."""
    password = urlsplit(site.url).password or ""
    await site.configure("requirepass", "another")
    await site.disconnect_others()
    yield
    await site.configure("requirepass", password)


@fault(DENIED)
async def fewer_rights(site: FaultyValkey) -> AsyncIterator[None]:
    """The user may not read groups any more."""
    await site.do("ACL SETUSER", "default", "-xreadgroup")
    yield
    await site.do("ACL SETUSER", "default", "+@all")


@fault(UNSUPPORTED)
async def may_not_ask(site: FaultyValkey) -> AsyncIterator[None]:
    """The user may not read, and after a reconnect may not even ask for the server's commands."""
    await site.do("ACL SETUSER", "default", "-command", "-xreadgroup")
    yield
    await site.do("ACL SETUSER", "default", "+@all")


@fault(MAX_CLIENTS)
async def crowded(site: FaultyValkey) -> AsyncIterator[None]:
    """It takes no more clients, and has just lost those it had."""
    await site.configure("maxclients", 1)
    await site.disconnect_others()
    yield
    await site.configure("maxclients", 1000)


@fault(SILENT)
async def frozen(site: FaultyValkey) -> AsyncIterator[None]:
    """It is stopped: connections are open, and nothing comes."""
    pid = await site.pid()
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def full(site: FaultyValkey) -> AsyncIterator[None]:
    """The server has no free memory. Groups can still be read and acked, so a worker sees no fault."""
    await site.configure("maxmemory", int((await site.server.info("memory"))["used_memory"]) // 2)
    yield
    await site.configure("maxmemory", "1gb")


async def catch_error(act: Awaitable[Any]) -> Exception:
    with pytest.raises((RedisError, OSError, ServerUnfit)) as caught:
        await act
    return caught.value
