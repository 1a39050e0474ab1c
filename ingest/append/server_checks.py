"""Whether the server may be given entries: it has the commands, is as durable as asked for, and has memory left."""

import asyncio
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.append.connection import COMMANDS
from ingest.append.durability import UNKNOWN, Durability, Level
from ingest.append.memory import Memory
from runtime.backoff import Backoff
from runtime.errors import Refusal
from stream.redis.client import ServerUnfit, reason, require

START_SECONDS = 3.0


class Unfit(Exception):  # noqa: N818 - named for what the server is
    """The server is not to be given entries now; ``why`` is one word for logs and metrics."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Fitness:
    """What a server is asked before it is given entries, and now and then while it is."""

    def __init__(self, server: Redis, level: Level) -> None:
        self._server = server
        self._durability = Durability(server, level)
        self._memory = Memory(server)

    async def check(self) -> None:
        """Ask everything. Raises Unfit; RedisError or OSError if there is no answer."""
        try:
            await require(self._server, COMMANDS)
        except ServerUnfit:
            raise Unfit("unfit") from None
        await self.check_durability()
        await self.check_memory()

    async def check_durability(self) -> None:
        """Ask for the settings."""
        if await self._durability.falls_short():
            raise Unfit("durability")

    async def check_memory(self) -> None:
        """Ask for the memory."""
        if await self._memory.is_high():
            raise Unfit("memory")

    async def check_at_start(self, shown_url: str) -> None:
        """Raise Refusal if entries must never be given to this server; with ``fsync`` also if it cannot be asked."""
        try:
            short = await self._asked_at_start()
        except (RedisError, OSError) as exc:
            if self._durability.level == "fsync":
                raise Refusal(
                    f"ACKSTREAM_ACK=fsync needs to know the settings of Redis, and {shown_url} does not answer "
                    f"({reason(exc)}): start it first, or set ACKSTREAM_ACK=stream"
                ) from None
            return
        if short == UNKNOWN:
            raise Refusal(
                "ACKSTREAM_ACK=fsync needs to know the settings of Redis, and this user may not ask: "
                "allow it CONFIG GET (+config|get), or set ACKSTREAM_ACK=stream"
            )
        if short:
            raise Refusal(
                f"ACKSTREAM_ACK=fsync asks for more than this Redis does: {short}. "
                "Change that (CONFIG SET, and its file), or set ACKSTREAM_ACK=stream"
            )

    async def _asked_at_start(self) -> str | None:
        """Ask once; with ``fsync`` again and again for a short while, as what the answer depends on starts too."""
        backoff = Backoff()
        if self._durability.level == "fsync":
            with suppress(TimeoutError):
                async with asyncio.timeout(START_SECONDS):
                    while True:
                        with suppress(RedisError, OSError):
                            return await self._ask()
                        await backoff.wait()
        async with asyncio.timeout(START_SECONDS):
            return await self._ask()

    async def _ask(self) -> str | None:
        await require(self._server, COMMANDS)
        return await self._durability.falls_short()
