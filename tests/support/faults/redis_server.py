"""Faults of a Redis server that is up, made by commands."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tests.support.waiting import until

ROOM_BYTES = 2**30
Command = Sequence[str | int]


class RedisTarget(Protocol):
    """A Redis server of a test."""

    @property
    def server(self) -> Redis:
        """A client that no fault of the network affects."""

    async def run_command(self, *words: Any) -> Any:
        """Run one command on the server."""


ServerFault = Callable[[RedisTarget], AbstractAsyncContextManager[None]]


def make_fault(start: Command, end: Command) -> ServerFault:
    """Return a fault that one command starts and another one ends."""

    @asynccontextmanager
    async def run(redis: RedisTarget) -> AsyncIterator[None]:
        await redis.run_command(*start)
        try:
            yield
        finally:
            await redis.run_command(*end)

    return run


def deny(*commands: str) -> ServerFault:
    """Return a fault that takes the user's right to these commands."""
    return make_fault(
        ("ACL SETUSER", "default", *(f"-{name}" for name in commands)), ("ACL SETUSER", "default", "+@all")
    )


def limit_memory(limit_bytes: int) -> ServerFault:
    """Return a fault that lowers the limit of the memory, so that the server is full."""
    return make_fault(("CONFIG SET", "maxmemory", limit_bytes), ("CONFIG SET", "maxmemory", ROOM_BYTES))


become_replica = make_fault(("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE"))
"""It is the replica of a server that does not exist, so it refuses writes."""

lose_replicas = make_fault(("CONFIG SET", "min-replicas-to-write", 1), ("CONFIG SET", "min-replicas-to-write", 0))
"""It needs a replica before it accepts writes, and has none."""

pause_writes = make_fault(("CLIENT PAUSE", 60_000, "WRITE"), ("CLIENT UNPAUSE",))
"""Commands that write get no answer."""


@asynccontextmanager
async def fail_snapshots(redis: RedisTarget) -> AsyncIterator[None]:
    """It cannot write its snapshot, so it refuses writes (stop-writes-on-bgsave-error)."""
    dump = Path(str((await redis.server.config_get("dir"))["dir"])) / "dump.rdb"

    async def save(status: str) -> None:
        async def has_status() -> bool:
            return str((await redis.server.info("persistence"))["rdb_last_bgsave_status"]) == status

        await redis.run_command("BGSAVE")
        await until(has_status)

    await redis.run_command("CONFIG SET", "save", "3600 1")
    dump.mkdir()
    await save("err")
    try:
        yield
    finally:
        dump.rmdir()
        await save("ok")
        await redis.run_command("CONFIG SET", "save", "")


@asynccontextmanager
async def block_by_script(redis: RedisTarget) -> AsyncIterator[None]:
    """A script runs that does not end, so the server answers BUSY."""
    await redis.run_command("CONFIG SET", "busy-reply-threshold", 10)
    script = asyncio.ensure_future(redis.run_command("EVAL", "while true do end", 0))

    async def is_busy() -> bool:
        try:
            await redis.run_command("PING")
        except ResponseError as exc:
            return str(exc).startswith("BUSY")
        return False

    await until(is_busy)
    try:
        yield
    finally:
        await redis.run_command("SCRIPT KILL")
        await asyncio.gather(script, return_exceptions=True)
