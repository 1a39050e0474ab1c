"""How full the server's memory is: at the high-water mark entries go to the spool, before Redis refuses them."""

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from runtime.metrics import MEMORY

HIGH = 0.95


class Memory:
    """The server's memory, as far as it may be asked for."""

    def __init__(self, server: Redis) -> None:
        self._server = server
        self._denied = False

    async def is_high(self) -> bool:
        """Ask the server, unless it has denied that before. Raises RedisError or OSError."""
        if self._denied:
            return False
        try:
            found = await self._server.info("memory")
        except ResponseError:  # NOPERM: asking again would only fill its log
            self._denied = True
            return False
        limit = found.get("maxmemory", 0)
        if not limit:
            return False
        ratio = (found["used_memory"] - found.get("mem_not_counted_for_evict", 0)) / limit
        MEMORY.set(ratio)
        return bool(ratio >= HIGH)
