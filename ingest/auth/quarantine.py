"""Refused payloads, kept for a while: if a secret was wrong, ``ackstream quarantine accept`` can still take them in.

The last ones are kept, on a stream bounded in entries, and in bytes because each has a bounded share. Whoever sends
forged webhooks must not slow the real ones: nobody waits for this, one batch is on its way at a time, and what does
not fit into the queue in memory is counted and forgotten.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime.metrics import QUARANTINED
from runtime.tasks import end
from stream.entry import Entry
from stream.redis.client import reason

log = structlog.get_logger("quarantine")

WAITING_ENTRIES = 512
WAITING_BYTES = 4 * 1024 * 1024
BATCH_ENTRIES = 64
PAUSE_SECONDS = 1.0
"""After Redis did not take a batch."""
CLOSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept. No entries, nothing is kept."""

    entries: int
    total_bytes: int

    @property
    def entry_bytes(self) -> int:
        """The share of one entry: a larger payload is not kept, only that it came, and how large it was."""
        return self.total_bytes // max(self.entries, 1)


class Quarantine:
    """Keeps refused payloads on one stream. Made by ``quarantining``, which keeps its loop running.

    An entry has the fields of ``stream.entry`` and beside them ``reason``, ``authorization`` (the header, so that it
    can be checked by other secrets later; never shown) and, where the payload was too large to keep, ``size``.
    """

    def __init__(self, server: Redis, stream: str, limits: Limits) -> None:
        self._server = server
        self._stream = stream
        self._limits = limits
        self._waiting: deque[dict[bytes, bytes]] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._closing = False

    def put(self, entry: Entry, why: str, authorization: str) -> None:
        """Keep the entry if there is room for it. Returns at once."""
        if not self._limits.entries:
            return
        fields = self._fields(entry, why, authorization)
        size = _size(fields)
        if len(self._waiting) >= WAITING_ENTRIES or self._waiting_bytes + size > WAITING_BYTES:
            QUARANTINED.labels("forgotten").inc()
            return
        self._waiting.append(fields)
        self._waiting_bytes += size
        self._arrived.set()

    async def run(self) -> None:
        """Append batch after batch; return after ``close``, when nothing waits any more."""
        while self._waiting or not self._closing:
            await self._arrived.wait()
            if not await self._append_batch():
                await asyncio.sleep(PAUSE_SECONDS)

    def close(self) -> None:
        """Let ``run`` return when it has appended what is waiting."""
        self._closing = True
        self._arrived.set()

    def _fields(self, entry: Entry, why: str, authorization: str) -> dict[bytes, bytes]:
        more = {b"reason": why.encode(), b"authorization": authorization.encode(errors="surrogateescape")}
        fields = entry.to_fields() | more
        if _size(fields) <= self._limits.entry_bytes:
            return fields
        kept = {name: fields[name] for name in (b"v", b"received_ms", b"receipt", b"verified", b"reason")}
        return kept | {b"content_type": b"", b"payload": b"", b"size": b"%d" % len(entry.payload)}

    async def _append_batch(self) -> bool:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_ENTRIES))]
        self._waiting_bytes -= sum(map(_size, batch))
        if not self._waiting and not self._closing:
            self._arrived.clear()
        try:
            async with self._server.pipeline(transaction=False) as pipe:
                for fields in batch:
                    kept: Any = fields
                    pipe.xadd(self._stream, kept, maxlen=self._limits.entries, approximate=False)
                await pipe.execute()
        except (RedisError, OSError) as exc:
            QUARANTINED.labels("forgotten").inc(len(batch))
            log.warning("quarantine.forgotten", entries=len(batch), error=reason(exc))
            return False
        QUARANTINED.labels("kept").inc(len(batch))
        return True


def _size(fields: dict[bytes, bytes]) -> int:
    return sum(map(len, fields)) + sum(map(len, fields.values()))


@asynccontextmanager
async def quarantining(server: Redis, stream: str, limits: Limits) -> AsyncIterator[Quarantine]:
    """Run a quarantine for the length of the block; what is waiting at its end is appended first, if Redis lets it."""
    quarantine = Quarantine(server, stream, limits)
    async with asyncio.TaskGroup() as tasks:
        loop = tasks.create_task(quarantine.run(), name="quarantine")
        try:
            yield quarantine
        finally:
            quarantine.close()
            await asyncio.wait([loop], timeout=CLOSE_SECONDS)
            await end([loop])
