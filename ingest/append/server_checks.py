"""Checks that Redis can accept entries: it has the commands, is durable enough and has free memory.

The settings are read from the server, never assumed. With ``fsync`` the server must write every append to its disk
before it confirms it, and must not evict it. A server that does not show its settings fails this check. With ``stream``
an append is as durable as the server is configured; shortcomings are logged once per change.
"""

from collections.abc import Mapping
from typing import Any, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ingest.append.connection import COMMANDS
from ingest.metrics import DURABLE, MEMORY
from ingest.settings import Level
from stream.redis.client import ServerUnfit, require_commands
from stream.redis.errors import UNSUPPORTED, RedisFault, is_denied

log = structlog.get_logger("durability")

REQUIRED = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
POLICY = "maxmemory-policy"
UNKNOWN = "CONFIG GET is denied"
HIGH_MEMORY = 0.95
"""At this share of maxmemory entries go to the spool, so that Redis never has to refuse them."""

NEARLY_FULL = RedisFault("memory", "Redis is nearly full", "give it more memory, or trim the stream")
TOO_WEAK = RedisFault(
    "durability",
    "Redis is less durable than ACKSTREAM_ACK=fsync requires",
    "change its settings (CONFIG SET, and its file), or set ACKSTREAM_ACK=stream",
    passing=False,
)


class ServerNotReady(Exception):  # noqa: N818 - named for the state of the server
    """The server must not get entries now. ``detail`` says what is missing."""

    def __init__(self, fault: RedisFault, detail: str = "") -> None:
        super().__init__(fault.name)
        self.fault = fault
        self.detail = detail


class ServerChecks:
    """The checks of a server before it gets entries, and regularly while it gets them.

    On a cluster each shard has its own, and ``peers`` has all of them: the metrics show the weakest node.
    """

    def __init__(self, server: Redis, level: Level, peers: "list[ServerChecks] | None" = None) -> None:
        self.level = level
        self._server = server
        self._peers = [self] if peers is None else peers
        self.shortcomings: list[str] | None = None
        """A phrase for each setting that was too weak at the last check; None before it."""
        self.memory_ratio = 0.0
        self._may_ask_memory = True

    async def check(self) -> None:
        """Run all checks. Raises ServerNotReady if one fails, or RedisError."""
        try:
            await require_commands(self._server, COMMANDS)
        except ServerUnfit as exc:
            raise ServerNotReady(UNSUPPORTED, str(exc)) from None
        await self.check_durability()
        await self.check_memory()

    async def check_durability(self) -> None:
        """Check the server's settings. Raises ServerNotReady if they are too weak for this level, and RedisError."""
        settings = await _read_settings(self._server)
        short = [UNKNOWN] if settings is None else find_shortcomings(settings)
        is_new = all(peer.shortcomings != short for peer in self._peers)
        self.shortcomings = short
        DURABLE.set(not any(peer.shortcomings for peer in self._peers))
        if is_new:
            self._log(short)
        if short and self.level == "fsync":
            raise ServerNotReady(TOO_WEAK, ", ".join(short))

    async def check_memory(self) -> None:
        """Check the server's memory, unless it denied the request before. Raises ServerNotReady and RedisError."""
        if not self._may_ask_memory:
            return
        try:
            info = await self._server.info("memory")
        except ResponseError as exc:
            if not is_denied(exc):
                raise
            # another request would only fill the server's log
            self._may_ask_memory = False
            return
        if limit := info.get("maxmemory", 0):
            self.memory_ratio = (info["used_memory"] - info.get("mem_not_counted_for_evict", 0)) / limit
            MEMORY.set(max(peer.memory_ratio for peer in self._peers))
            if self.memory_ratio >= HIGH_MEMORY:
                raise ServerNotReady(NEARLY_FULL)

    def _log(self, short: list[str]) -> None:
        if short:
            write = log.error if any(POLICY in phrase for phrase in short) else log.warning
            meaning = "a 200 is only as durable as these settings"
            write("durability.short", ack=self.level, redis="; ".join(short), meaning=meaning)
        else:
            log.info("durability.full", ack=self.level)


def find_shortcomings(settings: Mapping[str, str]) -> list[str]:
    """Return a phrase for each setting that is too weak."""
    short = [
        f"{name} is {settings.get(name, 'unknown')}, not {value}"
        for name, value in REQUIRED.items()
        if settings.get(name) != value
    ]
    policy = settings.get(POLICY, "unknown")
    if policy == "unknown" or policy.startswith("allkeys-"):
        short.append(f"{POLICY} is {policy}, not noeviction, so Redis may drop the whole stream")
    return short


async def _read_settings(server: Redis) -> Mapping[str, str] | None:
    try:
        settings: Any = await server.config_get(*REQUIRED, POLICY)
    except ResponseError as exc:
        if not is_denied(exc):
            raise
        return None
    return cast("Mapping[str, str]", settings)
