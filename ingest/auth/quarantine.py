"""Keeps rejected payloads: if a secret was wrong, ``ackstream quarantine accept`` can append them later.

A client with forged webhooks must neither slow real webhooks nor push real payloads out of the quarantine. So only
payloads that may be the provider's are kept: those with a valid signature but wrong claims, age or hash, and those
whose token names a configured account. The first kind has one budget, the second has one per account. A full budget
rejects new payloads and keeps the old ones. The quarantine holds one copy of each payload, even if the provider sends
it again. No request waits for it: one batch is in flight at a time, and payloads beyond the limits of the queue in
memory are counted and dropped.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.auth.proof import Reason, WrongSignature
from ingest.auth.settings import SignatureSettings
from ingest.metrics import QUARANTINED
from runtime.tasks import cancel_and_wait
from stream.entry import Entry
from stream.keys import Shard
from stream.redis.client import name_error
from stream.redis.scripts import read_script

log = structlog.get_logger("quarantine")

WAITING_ENTRIES = 512
WAITING_BYTES = 4 * 1024 * 1024
BATCH_ENTRIES = 64
PAUSE_SECONDS = 1.0
"""Pause after Redis failed to store a batch."""
FULL_SECONDS = 1.0
"""After this time a full budget is tried again."""
CLOSE_SECONDS = 1.0

KEEP = read_script(__file__, "quarantine.lua")

_VALID_SIGNATURE: frozenset[Reason] = frozenset(("claims", "age", "payload"))
_SIGNED_BUDGET = "signed"

_WITHOUT_PAYLOAD = (b"v", b"received_ms", b"receipt", b"verified", b"reason", b"fingerprint")

Fields = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class QuarantineLimits:
    """The total limits of the quarantine, shared evenly by ``budgets``. With 0 entries nothing is kept."""

    entries: int
    total_bytes: int
    budgets: int

    @property
    def budget_entries(self) -> int:
        """The entries of one budget."""
        return max(self.entries // self.budgets, 1)

    @property
    def entry_bytes(self) -> int:
        """The bytes of one entry. Of a larger payload only the size is recorded."""
        return self.total_bytes // max(self.entries, 1)


@dataclass(frozen=True, slots=True)
class _Waiting:
    budget: str
    fields: Fields

    @property
    def size(self) -> int:
        return sum(map(len, self.fields)) + sum(map(len, self.fields.values()))

    def arguments(self) -> Iterator[bytes | str | int]:
        yield self.fields[b"fingerprint"]
        yield self.budget
        yield 2 * len(self.fields)
        for name, value in self.fields.items():
            yield name
            yield value


def _budget_of(refused: WrongSignature) -> str | None:
    """Return the budget of a payload, or None if it cannot be the provider's and so is not kept."""
    if refused.reason in _VALID_SIGNATURE:
        return _SIGNED_BUDGET
    return None if refused.account is None else f"account {refused.account}"


def _fingerprint(payload: bytes, most_bytes: int) -> bytes:
    """Return a hash that identifies the payload. Only the start of a long payload is hashed, to limit the cost."""
    start = payload if len(payload) <= most_bytes else b"%d:%b" % (len(payload), payload[:most_bytes])
    return hashlib.sha256(start).hexdigest().encode()


class Quarantine:
    """Keeps rejected payloads on a stream. ``open_quarantine`` creates it and runs its loop.

    An entry has the fields of ``stream.entry``, plus ``reason``, ``fingerprint``, ``authorization`` (the values of the
    token's header, to verify them later with other secrets; never shown) and, if the payload was too large to keep,
    ``size``.
    """

    def __init__(self, server: Redis, shard: Shard, limits: QuarantineLimits) -> None:
        self._keep = server.register_script(KEEP)
        self._keys = [shard.quarantine, shard.quarantine_index]
        self._limits = limits
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._full_until: dict[str, float] = {}
        self._arrived = asyncio.Event()
        self._closing = False

    def find_budget(self, refused: WrongSignature) -> str | None:
        """Return the budget to pass to `put`, or None if the webhook is not kept. A full budget is counted."""
        budget = _budget_of(refused)
        if budget is None or not self._limits.entries:
            return None
        if time.monotonic() < self._full_until.get(budget, 0.0):
            QUARANTINED.count(("full",))
            return None
        return budget

    def put(self, entry: Entry, budget: str, reason: Reason, values: Sequence[str]) -> None:
        """Queue the entry of a rejected webhook if the queue has room. Returns at once.

        ``values`` are those of the token's header.
        """
        waiting = _Waiting(budget, self._fields(entry, reason, "\n".join(values)))
        if len(self._waiting) >= WAITING_ENTRIES or self._waiting_bytes + waiting.size > WAITING_BYTES:
            QUARANTINED.count(("forgotten",))
            return
        self._waiting.append(waiting)
        self._waiting_bytes += waiting.size
        self._arrived.set()

    async def run(self) -> None:
        """Store batch after batch; return after ``close`` when the queue is empty."""
        while self._waiting or not self._closing:
            await self._arrived.wait()
            if not await self._store_batch():
                await asyncio.sleep(PAUSE_SECONDS)

    def close(self) -> None:
        """Let ``run`` return when the queue is empty."""
        self._closing = True
        self._arrived.set()

    def _fields(self, entry: Entry, why: str, authorization: str) -> Fields:
        more = {
            b"reason": why.encode(),
            b"fingerprint": _fingerprint(entry.payload, self._limits.entry_bytes),
            b"authorization": authorization.encode(errors="surrogateescape"),
        }
        fields = entry.to_fields() | more
        if _Waiting("", fields).size <= self._limits.entry_bytes:
            return fields
        small = {name: fields[name] for name in _WITHOUT_PAYLOAD}
        return small | {b"content_type": b"", b"payload": b"", b"size": b"%d" % len(entry.payload)}

    async def _store_batch(self) -> bool:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_ENTRIES))]
        self._waiting_bytes -= sum(waiting.size for waiting in batch)
        if not self._waiting and not self._closing:
            self._arrived.clear()
        if not batch:
            return True
        arguments: list[Any] = [self._limits.budget_entries]
        for waiting in batch:
            arguments += waiting.arguments()
        try:
            outcomes = await self._keep(keys=self._keys, args=arguments)
        except RedisError as exc:
            QUARANTINED.count(("forgotten",), len(batch))
            log.warning("quarantine.forgotten", entries=len(batch), error=name_error(exc))
            return False
        for waiting, outcome in zip(batch, outcomes, strict=True):
            QUARANTINED.count((outcome.decode(),))
            if outcome == b"full":
                self._note_full(waiting.budget)
        return True

    def _note_full(self, budget: str) -> None:
        now = time.monotonic()
        if now >= self._full_until.get(budget, 0.0):
            log.warning(
                "quarantine.full",
                budget=budget,
                entries=self._limits.budget_entries,
                what="correct the secret and run `ackstream quarantine accept --all`, or `quarantine discard --all`",
                sampled=True,
            )
            self._full_until[budget] = now + FULL_SECONDS


@asynccontextmanager
async def open_quarantine(server: Redis, settings: SignatureSettings) -> AsyncIterator[Quarantine]:
    """Run a quarantine until the block ends; the queue is then flushed, within CLOSE_SECONDS."""
    verifier = settings.verifier
    budgets = 1 + (len(verifier.secrets) if verifier else 0)
    limits = QuarantineLimits(settings.quarantine_entries, settings.quarantine_bytes, budgets)
    quarantine = Quarantine(server, settings.shard, limits)
    async with asyncio.TaskGroup() as tasks:
        loop = tasks.create_task(quarantine.run(), name="quarantine")
        try:
            yield quarantine
        finally:
            quarantine.close()
            await asyncio.wait([loop], timeout=CLOSE_SECONDS)
            await cancel_and_wait([loop])
