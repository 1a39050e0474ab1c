"""Whether the server may be given entries: it has the commands, is as durable as asked for, and has memory left.

Its settings are asked for, never assumed. With ``fsync`` every append is on the server's disk before it is confirmed,
and stays; anything else, or a server that does not say, means that appends are not good enough. With ``stream`` an
append is worth what the server makes of it; what falls short is logged, once for each change.
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
from stream.redis.errors import UNSUPPORTED, RedisFault

log = structlog.get_logger("durability")

WANTED = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
POLICY = "maxmemory-policy"
UNKNOWN = "CONFIG GET is denied"
HIGH_MEMORY = 0.95
"""At this share of maxmemory entries go to the spool, before Redis refuses them."""

NEARLY_FULL = RedisFault("memory", "Redis is nearly full", "give it more memory, or trim the stream")
TOO_WEAK = RedisFault(
    "durability",
    "Redis is less durable than ACKSTREAM_ACK=fsync asks for",
    "change its settings (CONFIG SET, and its file), or set ACKSTREAM_ACK=stream",
    passing=False,
)


class ServerNotReady(Exception):  # noqa: N818 - named for what the server is
    """The server is not to be given entries now. ``detail`` says what it lacks."""

    def __init__(self, fault: RedisFault, detail: str = "") -> None:
        super().__init__(fault.name)
        self.fault = fault
        self.detail = detail


class ServerChecks:
    """What a server is asked before it is given entries, and now and then while it is."""

    def __init__(self, server: Redis, level: Level) -> None:
        self.level = level
        self._server = server
        self._previous: list[str] | None = None
        self._may_ask_memory = True

    async def check(self) -> None:
        """Check everything. Raises ServerNotReady, or RedisError if there is no answer."""
        try:
            await require_commands(self._server, COMMANDS)
        except ServerUnfit as exc:
            raise ServerNotReady(UNSUPPORTED, str(exc)) from None
        await self.check_durability()
        await self.check_memory()

    async def check_durability(self) -> None:
        """Ask for the settings. Raises ServerNotReady if appends must not be confirmed at this level; RedisError."""
        settings = await _read_settings(self._server)
        short = [UNKNOWN] if settings is None else find_shortcomings(settings)
        DURABLE.set(not short)
        if short != self._previous:
            self._log(short)
            self._previous = short
        if short and self.level == "fsync":
            raise ServerNotReady(TOO_WEAK, ", ".join(short))

    async def check_memory(self) -> None:
        """Ask for the memory, unless the server has denied that before. Raises ServerNotReady; RedisError."""
        if not self._may_ask_memory:
            return
        try:
            info = await self._server.info("memory")
        except ResponseError:  # NOPERM: asking again would only fill its log
            self._may_ask_memory = False
            return
        if limit := info.get("maxmemory", 0):
            ratio = (info["used_memory"] - info.get("mem_not_counted_for_evict", 0)) / limit
            MEMORY.set(ratio)
            if ratio >= HIGH_MEMORY:
                raise ServerNotReady(NEARLY_FULL)

    def _log(self, short: list[str]) -> None:
        if short:
            tell = log.error if any(POLICY in phrase for phrase in short) else log.warning
            tell("durability.short", ack=self.level, redis="; ".join(short), meaning="a 200 is worth no more than this")
        else:
            log.info("durability.full", ack=self.level)


def find_shortcomings(settings: Mapping[str, str]) -> list[str]:
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


async def _read_settings(server: Redis) -> Mapping[str, str] | None:
    try:
        settings: Any = await server.config_get(*WANTED, POLICY)
    except ResponseError:  # NOPERM; a hosted server may not know the command
        return None
    return cast("Mapping[str, str]", settings)
