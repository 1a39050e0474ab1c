"""Refused payloads, kept for a while: if a secret was wrong, ``ackstream quarantine accept`` can still append them.

Whoever sends forged webhooks must neither slow the real ones nor flush those that are kept. So only what may be the
provider's is kept: a payload whose signature is right but whose claims, age or hash are not, and one whose token names
a configured account. Both kinds have budgets of their own, one for each account, and a budget that is full refuses the
new and keeps the old. There is one copy of each payload, however often the provider sends it again. Nobody waits for
this: one batch is in flight at a time, and what does not fit into the queue in memory is counted and forgotten.
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
from stream.redis.client import name_error
from stream.redis.scripts import read_script

log = structlog.get_logger("quarantine")

WAITING_ENTRIES = 512
WAITING_BYTES = 4 * 1024 * 1024
BATCH_ENTRIES = 64
PAUSE_SECONDS = 1.0
"""After Redis did not take a batch."""
FULL_SECONDS = 1.0
"""For so long nothing more is given to a budget that was full."""
CLOSE_SECONDS = 1.0

KEEP = read_script(__file__, "quarantine.lua")

_RIGHTLY_SIGNED: frozenset[Reason] = frozenset(("claims", "age", "payload"))
_SIGNED_BUDGET = "signed"

_WITHOUT_PAYLOAD = (b"v", b"received_ms", b"receipt", b"verified", b"reason", b"fingerprint")

Fields = dict[bytes, bytes]


def index_of(quarantine: str) -> str:
    """Return the key of the index that belongs to this quarantine."""
    return f"{quarantine}:index"


@dataclass(frozen=True, slots=True)
class QuarantineLimits:
    """How much is kept in all, shared evenly by ``budgets``. No entries, nothing is kept."""

    entries: int
    total_bytes: int
    budgets: int

    @property
    def budget_entries(self) -> int:
        """The share of one budget."""
        return max(self.entries // self.budgets, 1)

    @property
    def entry_bytes(self) -> int:
        """The share of one entry: a larger payload is not kept, only that it came, and how large it was."""
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
    """Return which budget the payload counts to; None if it cannot be the provider's, and so is not kept."""
    if refused.reason in _RIGHTLY_SIGNED:
        return _SIGNED_BUDGET
    return None if refused.account is None else f"account {refused.account}"


def _fingerprint(payload: bytes, most_bytes: int) -> bytes:
    """Return what tells one payload from another. Of a longer one only the start counts, so that none is expensive."""
    start = payload if len(payload) <= most_bytes else b"%d:%b" % (len(payload), payload[:most_bytes])
    return hashlib.sha256(start).hexdigest().encode()


class Quarantine:
    """Keeps refused payloads on one stream. Made by ``open_quarantine``, which runs its loop.

    An entry has the fields of ``stream.entry`` and beside them ``reason``, ``fingerprint``, ``authorization`` (the
    values of the token's header, so that they can be checked by other secrets later; never shown) and, where the
    payload was too large to keep, ``size``.
    """

    def __init__(self, server: Redis, stream: str, limits: QuarantineLimits) -> None:
        self._keep = server.register_script(KEEP)
        self._stream = stream
        self._limits = limits
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._full_until: dict[str, float] = {}
        self._arrived = asyncio.Event()
        self._closing = False

    def find_budget(self, refused: WrongSignature) -> str | None:
        """Return which budget to give `put` a webhook for; None if it is not kept. A full budget is counted."""
        budget = _budget_of(refused)
        if budget is None or not self._limits.entries:
            return None
        if time.monotonic() < self._full_until.get(budget, 0.0):
            QUARANTINED.count("full")
            return None
        return budget

    def put(self, entry: Entry, budget: str, reason: Reason, values: Sequence[str]) -> None:
        """Keep the entry of a refused webhook if there is room for it. Returns at once.

        ``values`` are those of the token's header.
        """
        waiting = _Waiting(budget, self._fields(entry, reason, "\n".join(values)))
        if len(self._waiting) >= WAITING_ENTRIES or self._waiting_bytes + waiting.size > WAITING_BYTES:
            QUARANTINED.count("forgotten")
            return
        self._waiting.append(waiting)
        self._waiting_bytes += waiting.size
        self._arrived.set()

    async def run(self) -> None:
        """Append batch after batch; return after ``close``, when nothing waits any more."""
        while self._waiting or not self._closing:
            await self._arrived.wait()
            if not await self._keep_batch():
                await asyncio.sleep(PAUSE_SECONDS)

    def close(self) -> None:
        """Let ``run`` return when it has appended what is waiting."""
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
        kept = {name: fields[name] for name in _WITHOUT_PAYLOAD}
        return kept | {b"content_type": b"", b"payload": b"", b"size": b"%d" % len(entry.payload)}

    async def _keep_batch(self) -> bool:
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
            outcomes = await self._keep(keys=[self._stream, index_of(self._stream)], args=arguments)
        except RedisError as exc:
            QUARANTINED.count("forgotten", number=len(batch))
            log.warning("quarantine.forgotten", entries=len(batch), error=name_error(exc))
            return False
        for waiting, outcome in zip(batch, outcomes, strict=True):
            QUARANTINED.count(outcome.decode())
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
    """Run a quarantine for the length of the block; what is waiting at its end is appended first, if Redis lets it."""
    verifier = settings.verifier
    budgets = 1 + (len(verifier.secrets) if verifier else 0)
    limits = QuarantineLimits(settings.quarantine_entries, settings.quarantine_bytes, budgets)
    quarantine = Quarantine(server, settings.shard.quarantine, limits)
    async with asyncio.TaskGroup() as tasks:
        loop = tasks.create_task(quarantine.run(), name="quarantine")
        try:
            yield quarantine
        finally:
            quarantine.close()
            await asyncio.wait([loop], timeout=CLOSE_SECONDS)
            await cancel_and_wait([loop])
