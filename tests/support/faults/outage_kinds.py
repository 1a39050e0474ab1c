"""The kinds of a Redis outage: how each starts and ends, and the reasons that ingest may count."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

from redis.exceptions import ResponseError

from tests.support.faults.redis_outages import ProxiedRedis
from tests.support.waiting import until

Fault = Callable[[ProxiedRedis], Awaitable[Any]]


async def killed(away: ProxiedRedis) -> None:
    away.kill()


async def frozen(away: ProxiedRedis) -> None:
    away.freeze()


async def silent(away: ProxiedRedis) -> None:
    away.proxy.freeze()


async def swallowing(away: ProxiedRedis) -> None:
    away.proxy.swallows_replies = True


async def refusing(away: ProxiedRedis) -> None:
    away.proxy.refuses = True
    away.proxy.cut()


async def thawed(away: ProxiedRedis) -> None:
    away.proxy.thaw()


async def healed(away: ProxiedRedis) -> None:
    away.proxy.swallows_replies = away.proxy.refuses = False


async def heard(away: ProxiedRedis) -> None:
    away.thaw()


def told(*command: Any) -> Fault:
    async def tell(away: ProxiedRedis) -> None:
        await away.tell(*command)

    return tell


async def without_disk(away: ProxiedRedis) -> None:
    """It cannot write snapshots and therefore refuses writes: MISCONF."""
    shutil.rmtree(str((await away.server.config_get("dir"))["dir"]))
    await away.tell("CONFIG SET", "save", "3600 1")
    await away.tell("BGSAVE")

    async def has_failed() -> bool:
        return bool((await away.server.info("persistence"))["rdb_last_bgsave_status"] == "err")

    await until(has_failed)


async def full(away: ProxiedRedis) -> None:
    """Over its limit from one moment to the next: it refuses entries, and after a look ingest sends none."""
    await away.tell("CONFIG SET", "maxmemory", 1)


async def busy(away: ProxiedRedis) -> None:
    """With a script that does not end."""
    await away.tell("CONFIG SET", "busy-reply-threshold", 10)
    script = asyncio.create_task(away.tell("EVAL", "while true do end", 0))
    script.add_done_callback(lambda done: done.exception())

    async def is_busy() -> bool:
        try:
            await away.tell("PING")
        except ResponseError as exc:
            return str(exc).startswith("BUSY")
        return False

    await until(is_busy)


FAULTS: dict[str, tuple[tuple[str, ...], Fault, Fault]] = {
    "killed": (("away",), killed, ProxiedRedis.start),
    "refusing connections": (("away",), refusing, healed),
    "frozen": (("silent",), frozen, heard),
    "behind a network that passes nothing": (("silent",), silent, thawed),
    "swallowed replies": (("silent",), swallowing, healed),
    "paused": (("silent",), told("CLIENT PAUSE", 60_000, "WRITE"), told("CLIENT UNPAUSE")),
    "a replica": (("read-only",), told("REPLICAOF", "127.0.0.1", 1), told("REPLICAOF", "NO", "ONE")),
    "without replicas": (
        ("read-only",),
        told("CONFIG SET", "min-replicas-to-write", 1),
        told("CONFIG SET", "min-replicas-to-write", 0),
    ),
    "out of memory": (("full", "memory"), full, told("CONFIG SET", "maxmemory", 2**30)),
    "without a disk": (("unwritable",), without_disk, told("CONFIG SET", "stop-writes-on-bgsave-error", "no")),
    "denying the user": (
        ("denied",),
        told("ACL SETUSER", "default", "-evalsha"),
        told("ACL SETUSER", "default", "+@all"),
    ),
    "busy with a script": (("busy",), busy, told("SCRIPT KILL")),
}
