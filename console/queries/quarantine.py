"""List, accept and discard quarantined payloads, those with a wrong signature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from console.format import format_receipt_time, to_text
from ingest.auth.proof import Proof, SignatureRefused
from ingest.auth.verifier import Verifier
from stream.entry import LONGEST_NUMBER, Entry, EntryId, InvalidEntry
from stream.keys import Shard
from stream.layout import Layout
from stream.payload import choose_shard
from stream.redis.scripts import read_script
from worker.events.event import mask_numbers

PAGE = 500

REMOVE = read_script(__file__, "quarantine_remove.lua")

_QUARANTINE_FIELDS = (b"reason", b"fingerprint", b"authorization", b"size")


@dataclass(frozen=True, slots=True)
class RefusedPayload:
    """One refused payload. ``fields`` are those that ``ingest.auth.quarantine`` wrote."""

    id: EntryId
    fields: Mapping[bytes, bytes]

    @property
    def reason(self) -> str:
        """The reason code of the refusal."""
        return to_text(self.fields.get(b"reason", b""))

    @property
    def has_payload(self) -> bool:
        """Whether the payload is stored; a large one is not."""
        return b"size" not in self.fields

    @property
    def size(self) -> int:
        """The size of the received payload in bytes; 0 if unknown."""
        if self.has_payload:
            return len(self.fields.get(b"payload", b""))
        digits = self.fields[b"size"]
        return int(digits) if digits.isdigit() and len(digits) <= LONGEST_NUMBER else 0

    def summary(self) -> dict[str, Any]:
        """Return the row of a listing."""
        return {
            "id": str(self.id),
            "reason": self.reason,
            "received_at": format_receipt_time(self.fields),
            "bytes": self.size,
            "kept": self.has_payload,
        }

    def show(self, *, reveal: bool) -> dict[str, Any]:
        """Return all fields except the token; without ``reveal`` long digit runs are masked."""
        show = str if reveal else mask_numbers
        names = ("payload", "content_type", "query")
        return {
            **self.summary(),
            **{name: show(to_text(self.fields.get(name.encode(), b""))) for name in names},
        }

    def check(self, verifier: Verifier | None) -> tuple[str, bool]:
        """Verify the signature again; return the account, empty if unknown, and whether it would be accepted."""
        if verifier is None:
            return "", False
        try:
            proof = self._verify(verifier)
        except SignatureRefused as exc:
            return exc.account or "", False
        return proof.account or "", self.has_payload

    def proof(self, verifier: Verifier | None) -> Proof | None:
        """Verify the signature with today's secrets at the time of receipt; None if it is still wrong."""
        if verifier is None:
            return None
        try:
            return self._verify(verifier)
        except SignatureRefused:
            return None

    def _verify(self, verifier: Verifier) -> Proof:
        """Return the proof of the sender. Raises SignatureRefused."""
        values = self.fields.get(b"authorization", b"").decode(errors="surrogateescape").split("\n")
        digits = self.fields.get(b"received_ms", b"")
        seconds = int(digits) // 1000 if digits.isdigit() and len(digits) <= LONGEST_NUMBER else 0
        return verifier.verify(values, self.fields.get(b"payload", b""), seconds)

    def entry(self, proof: Proof) -> Entry:
        """Return the entry to append. Raises InvalidEntry."""
        entry = Entry.from_fields(
            {name: value for name, value in self.fields.items() if name not in _QUARANTINE_FIELDS}
        )
        return entry._replace(
            verified=proof.verified, account=proof.account, application=proof.application, signature=proof.signature
        )


async def list_refused(server: Redis, shard: Shard, limit: int) -> list[RefusedPayload]:
    """Return at most ``limit`` refused payloads, the newest first. Ingest uses that of shard 0. Raises RedisError."""
    entries: Any = await server.xrevrange(shard.quarantine, count=limit)
    return [RefusedPayload(EntryId.from_redis(shard.number, entry_id), fields) for entry_id, fields in entries]


async def find_refused(server: Redis, shard: Shard, entry_id: EntryId) -> RefusedPayload | None:
    """Return the refused payload with this id, or None. Raises RedisError."""
    entries: Any = await server.xrange(shard.quarantine, entry_id.redis, entry_id.redis)
    return RefusedPayload(entry_id, entries[0][1]) if entries else None


async def accept(
    server: Redis,
    shard: Shard,
    refused: Sequence[RefusedPayload],
    verifier: Verifier | None,
    layout: Layout,
    *,
    unverified: bool,
) -> tuple[list[str], list[str]]:
    """Append each payload whose signature is now right; return their ids, and the ids of the remaining payloads.

    With ``unverified`` payloads with a wrong signature are appended too, marked as not verified. A payload that was too
    large to store remains. Each goes to the shard of its message, because workers may be in order mode. Raises
    RedisError.
    """
    accepted: list[str] = []
    remaining: list[str] = []
    for payload in refused:
        proof = payload.proof(verifier) or (Proof("none", None, None, "wrong") if unverified else None)
        fields = _fields(payload, proof)
        if fields is not None and await _move(server, shard, payload, fields, layout):
            accepted.append(str(payload.id))
        elif fields is None:
            remaining.append(str(payload.id))
    return accepted, remaining


async def discard(server: Redis, shard: Shard, refused: Sequence[RefusedPayload]) -> list[str]:
    """Drop these payloads; return the ids of those that still existed. Raises RedisError."""
    return [str(payload.id) for payload in refused if await _remove(server, shard, payload, {})]


async def _move(
    server: Redis, shard: Shard, refused: RefusedPayload, fields: Mapping[bytes, bytes], layout: Layout
) -> bool:
    """Append the payload to its shard and remove it from the quarantine; return whether it was there.

    On another shard than the quarantine these are two steps: if the second one fails, it can be accepted once more.
    """
    target = Shard(shard.name, choose_shard(refused.fields.get(b"payload", b""), layout.used))
    if target == shard:
        return await _remove(server, shard, refused, fields)
    if await find_refused(server, shard, refused.id) is None:
        return False
    entry: Any = fields
    await server.xadd(target.stream, entry)
    await _remove(server, shard, refused, {})
    return True


async def _remove(server: Redis, shard: Shard, refused: RefusedPayload, fields: Mapping[bytes, bytes]) -> bool:
    """Remove the payload from the quarantine, and append the fields if any; return whether it was there."""
    remove = server.register_script(REMOVE)
    keys = [shard.quarantine, shard.quarantine_index, shard.stream]
    flat = [part for pair in fields.items() for part in pair]
    return bool(await remove(keys=keys, args=[refused.id.redis, refused.fields.get(b"fingerprint", b""), *flat]))


def _fields(refused: RefusedPayload, proof: Proof | None) -> Mapping[bytes, bytes] | None:
    if proof is None or not refused.has_payload:
        return None
    try:
        return refused.entry(proof).to_fields()
    except InvalidEntry:  # ingest did not write it
        return None
