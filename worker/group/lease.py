"""A lease: who of several processes does something right now. It ends by itself when its holder is gone.

The server alone counts its time; nobody compares clocks. A holder that was stopped for longer does not notice, so what
it does must be harmless or must ask for the lease in the same script.
"""

import secrets

from redis.asyncio import Redis

from stream.redis.scripts import read_script

TAKE = read_script(__file__, "take_lease.lua")
LEAVE = read_script(__file__, "leave_lease.lua")


class Lease:
    """One process's claim to a lease; it lasts ``lease_ms`` from the last time it was taken."""

    def __init__(self, server: Redis, key: str, lease_ms: int) -> None:
        self._key = key
        self._take = server.register_script(TAKE)
        self._leave = server.register_script(LEAVE)
        self.lease_ms = lease_ms
        self.token = secrets.token_hex(8)

    async def take(self) -> bool:
        """Take the lease, or keep it for longer; False if another has it. Raises RedisError."""
        return bool(await self._take(keys=[self._key], args=[self.token, self.lease_ms]))

    async def leave(self) -> None:
        """Give it up, so that another need not wait for its end. Raises RedisError."""
        await self._leave(keys=[self._key], args=[self.token])
