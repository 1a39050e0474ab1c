"""A load of real requests, which remembers what was answered 200."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import orjson

LOAD_SECONDS = 180.0
SENDERS = 8
JSON = {"Content-Type": "application/json"}


@dataclass(slots=True)
class Load:
    """Messages sent without end: the ids of those answered 200, and how many were not."""

    accepted_ids: list[str] = field(default_factory=list)
    refused: int = 0
    unconnected: int = 0
    """How many of those could not even connect."""
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    _one_more: asyncio.Event = field(default_factory=asyncio.Event)

    async def keeps(self, count: int) -> None:
        """Return when this number of further requests were answered 200."""
        target = len(self.accepted_ids) + count
        while len(self.accepted_ids) < target:
            self._one_more.clear()
            await self._one_more.wait()

    async def send(self, session: aiohttp.ClientSession, url: str, pause_seconds: float) -> None:
        """Send one message after the other, with a pause after each, until there are enough."""
        while not self.enough.is_set():
            message_uuid = f"load-{secrets.token_hex(8)}"
            try:
                async with session.post(url, data=make_delivered(message_uuid)) as response:
                    is_accepted = response.status == 200
            except (aiohttp.ClientError, TimeoutError) as exc:
                is_accepted = False
                self.unconnected += isinstance(exc, aiohttp.ClientConnectorError)
            if is_accepted:
                self.accepted_ids.append(message_uuid)
                self._one_more.set()
                if pause_seconds:
                    await asyncio.sleep(pause_seconds)
            else:
                self.refused += 1
                await asyncio.sleep(0.05)  # like a provider, which does not come again at once either


@asynccontextmanager
async def open_load(
    url: str, pause_seconds: float = 0, *, reconnects: bool = False, seconds: float = LOAD_SECONDS
) -> AsyncIterator[Load]:
    """Send while the block runs; at its end the last answers are in. Each sender pauses after a message.

    With ``reconnects`` each message has a connection of its own.
    """
    load = Load()
    connector = aiohttp.TCPConnector(force_close=reconnects)
    async with (
        asyncio.timeout(seconds),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10), headers=JSON, connector=connector) as session,
        asyncio.TaskGroup() as senders,
    ):
        for _ in range(SENDERS):
            senders.create_task(load.send(session, url, pause_seconds))
        yield load
        load.enough.set()


def make_delivered(message_uuid: str) -> bytes:
    return orjson.dumps(
        {
            "message_uuid": message_uuid,
            "to": "447700900000",
            "from": "447700900001",
            "timestamp": "2026-02-03T12:14:25Z",
            "status": "delivered",
            "channel": "sms",
        }
    )
