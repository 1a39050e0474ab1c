"""A lease: one of several processes holds it at a time. It expires if its holder is gone.

Only the server measures its time. A holder that was stopped for longer does not notice, so its actions must be
harmless, or check the lease in the same script.
"""

import secrets

from redis.asyncio import Redis

from stream.redis.scripts import read_script

TAKE = read_script(__file__, "take_lease.lua")
LEAVE = read_script(__file__, "leave_lease.lua")


class Lease:
    """One process's view of a lease, which lasts ``lease_ms`` after each ``take``."""

    def __init__(self, server: Redis, key: str, lease_ms: int) -> None:
        self._key = key
        self._take = server.register_script(TAKE)
        self._leave = server.register_script(LEAVE)
        self.lease_ms = lease_ms
        self.token = secrets.token_hex(8)

    async def take(self) -> bool:
        """Take or extend the lease. Return False if another process holds it. Raises RedisError."""
        return bool(await self._take(keys=[self._key], args=[self.token, self.lease_ms]))

    async def leave(self) -> None:
        """Release the lease, so that another process can take it at once. Raises RedisError."""
        await self._leave(keys=[self._key], args=[self.token])
