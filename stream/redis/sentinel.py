"""Asks sentinels for the address of the primary.

redis-py's own Sentinel class asks one sentinel after the other, each up to its time limit, and trusts the first answer.
That answer may be stale if the sentinel is cut off from the others. This module asks all at once and prefers the
address that most of them name.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from stream.redis.connection import Tcp, Tls
from stream.redis.errors import PrimaryUnknown
from stream.redis.primary import Locator
from stream.redis.url import Host, Target
from stream.redis.votes import count_votes

LOOK_SECONDS = 2.0


class Sentinels(Locator):
    """The sentinels of one service. Each query opens new connections, so that none of them is half open."""

    def __init__(self, target: Target, limits: Mapping[str, Any]) -> None:
        self._service = target.service
        self._hosts = target.sentinels
        self._kind = Tls if target.scheme == "rediss" else Tcp
        self._options = {**target.sentinel_options, **limits}
        self._refreshed_at = 0.0
        self._refresh_task: asyncio.Task[None] | None = None

    async def find_primaries(self) -> Sequence[Host]:
        """Return the addresses that the sentinels name, most votes first. Raises PrimaryUnknown after ASK_SECONDS."""
        return [host for host, _ in (await self._count_votes()).most_common()]

    def refresh(self) -> None:
        """Ask in the background whether most sentinels name another primary, at most once per LOOK_SECONDS."""
        is_running = self._refresh_task is not None and not self._refresh_task.done()
        if time.monotonic() - self._refreshed_at > LOOK_SECONDS and not is_running:
            self._refreshed_at = time.monotonic()
            self._refresh_task = asyncio.get_running_loop().create_task(self._refresh())

    async def aclose(self) -> None:
        """Stop asking the sentinels."""
        if self._refresh_task is not None:
            self._refresh_task.cancel()
            await asyncio.wait([self._refresh_task])

    async def _refresh(self) -> None:
        with suppress(PrimaryUnknown):
            host, votes = (await self._count_votes()).most_common(1)[0]
            if self._is_majority(votes):
                self.primary = host

    def _is_majority(self, votes: int) -> bool:
        return 2 * votes > len(self._hosts)

    async def _count_votes(self) -> Counter[Host]:
        """Count the sentinels' answers. Raises PrimaryUnknown without any."""
        votes, error = await count_votes(self._hosts, self._ask)
        if not votes:
            raise PrimaryUnknown(f"no sentinel names a primary of {self._service!r}") from error
        return votes

    async def _ask(self, host: str, port: int) -> Host | None:
        connection: Any = self._kind(host=host, port=port, **self._options)
        try:
            await connection.connect()
            await connection.send_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self._service)
            address = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
        return (address[0].decode(), int(address[1])) if address else None
