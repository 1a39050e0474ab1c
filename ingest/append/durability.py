"""What a confirmed append is worth on this server: its settings are asked for, never assumed.

``fsync``: every append is on the server's disk before it is confirmed, and stays; anything else, or not being told,
means that appends are not good enough. ``stream``: an append is worth what it is worth; what falls short is logged,
once for each change.
"""

from collections.abc import Mapping
from typing import Any, Literal, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from runtime.metrics import DURABLE

log = structlog.get_logger("durability")

Level = Literal["stream", "fsync"]

WANTED = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
POLICY = "maxmemory-policy"

UNKNOWN = "CONFIG GET is denied"


class Durability:
    """What the server gives, against the level that is asked for."""

    def __init__(self, server: Redis, level: Level) -> None:
        self.level = level
        self._server = server
        self._known: list[str] | None = None

    async def falls_short(self) -> str | None:
        """Return why appends must not be confirmed at this level; None if they may. Raises RedisError or OSError."""
        found = await _settings(self._server)
        short = [UNKNOWN] if found is None else shortcomings(found)
        DURABLE.set(not short)
        if short != self._known:
            self._tell(short)
            self._known = short
        return ", ".join(short) if short and self.level == "fsync" else None

    def _tell(self, short: list[str]) -> None:
        if short:
            tell = log.error if any(POLICY in one for one in short) else log.warning
            tell("durability.short", ack=self.level, redis="; ".join(short), meaning="a 200 is worth no more than this")
        else:
            log.info("durability.full", ack=self.level)


def shortcomings(settings: Mapping[str, str]) -> list[str]:
    """Return what the server's settings lack, a phrase each."""
    short = [
        f"{name} is {settings.get(name, 'unknown')}, not {value}"
        for name, value in WANTED.items()
        if settings.get(name) != value
    ]
    policy = settings.get(POLICY, "unknown")
    if policy == "unknown" or policy.startswith("allkeys-"):
        short.append(f"{POLICY} is {policy}, so the whole stream may be dropped; not noeviction")
    return short


async def _settings(server: Redis) -> Mapping[str, str] | None:
    try:
        found: Any = await server.config_get(*WANTED, POLICY)
    except ResponseError:  # NOPERM; a hosted server may not know the command
        return None
    return cast("Mapping[str, str]", found)
