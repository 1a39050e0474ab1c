"""Payloads whose signature was wrong: what came, why it was refused, and appending it after all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from console.format import format_receipt_time, mask_numbers, to_text
from ingest.auth.proof import Proof, SignatureRefused
from ingest.auth.quarantine import index_of
from ingest.auth.verifier import Verifier
from stream.entry import LONGEST_NUMBER, Entry, EntryId, InvalidEntry
from stream.keys import Shard
from stream.redis.scripts import read_script

PAGE = 500

REMOVE = read_script(__file__, "quarantine_remove.lua")

_OWN = (b"reason", b"fingerprint", b"authorization", b"size")


@dataclass(frozen=True, slots=True)
class RefusedPayload:
    """One refused payload. ``fields`` are as ``ingest.quarantine`` wrote them."""

    id: EntryId
    fields: Mapping[bytes, bytes]

    @property
    def reason(self) -> str:
        """Why it was refused, in a word."""
        return to_text(self.fields.get(b"reason", b""))

    @property
    def whole(self) -> bool:
        """Whether the payload was kept."""
        return b"size" not in self.fields

    @property
    def size(self) -> int:
        """The payload's bytes, as they came; 0 if the entry does not say."""
        if self.whole:
            return len(self.fields.get(b"payload", b""))
        digits = self.fields[b"size"]
        return int(digits) if digits.isdigit() and len(digits) <= LONGEST_NUMBER else 0

    def summary(self) -> dict[str, Any]:
        """Return the line of a listing."""
        return {
            "id": str(self.id),
            "reason": self.reason,
            "received_at": format_receipt_time(self.fields),
            "bytes": self.size,
            "kept": self.whole,
        }

    def show(self, *, reveal: bool) -> dict[str, Any]:
        """Return everything but the token; long digit runs are mask_numbers unless ``reveal``."""
        show = str if reveal else mask_numbers
        shown = ("payload", "content_type", "query")
        return {
            **self.summary(),
            **{name: show(to_text(self.fields.get(name.encode(), b""))) for name in shown},
        }

    def proof(self, verifier: Verifier | None) -> Proof | None:
        """Return what the signature proves by the secrets of today, on the clock of then; None if it is still wrong."""
        if verifier is None:
            return None
        values = self.fields.get(b"authorization", b"").decode(errors="surrogateescape").split("\n")
        digits = self.fields.get(b"received_ms", b"")
        seconds = int(digits) // 1000 if digits.isdigit() and len(digits) <= LONGEST_NUMBER else 0
        try:
            return verifier.verify(values, self.fields.get(b"payload", b""), seconds)
        except SignatureRefused:
            return None

    def entry(self, proof: Proof) -> Entry:
        """Return the entry to append. Raises InvalidEntry."""
        entry = Entry.from_fields({name: value for name, value in self.fields.items() if name not in _OWN})
        return entry._replace(
            verified=proof.verified, account=proof.account, application=proof.application, signature=proof.signature
        )


async def list_refused(server: Redis, shard: Shard, most: int) -> list[RefusedPayload]:
    """Return at most ``most`` refused payloads, the newest first. Raises RedisError."""
    found: Any = await server.xrevrange(shard.quarantine, count=most)
    return [RefusedPayload(EntryId.from_redis(shard.number, entry_id), fields) for entry_id, fields in found]


async def find_refused(server: Redis, shard: Shard, wanted: EntryId) -> RefusedPayload | None:
    """Return the refused payload with this id. Raises RedisError."""
    found: Any = await server.xrange(shard.quarantine, wanted.redis, wanted.redis)
    return RefusedPayload(wanted, found[0][1]) if found else None


async def accept(
    server: Redis, shard: Shard, refused: Sequence[RefusedPayload], verifier: Verifier | None, *, unverified: bool
) -> tuple[list[str], list[str]]:
    """Append those whose signature is right by now, each once; return their ids, and the ids of the others.

    With ``unverified`` those with a signature that is still wrong are appended too, as not verified. One that was too
    large to be kept stays. Raises RedisError.
    """
    taken: list[str] = []
    left: list[str] = []
    for one in refused:
        proof = one.proof(verifier) or (Proof("none", None, None, "wrong") if unverified else None)
        fields = _fields(one, proof)
        if fields is not None and await _remove(server, shard, one, fields):
            taken.append(str(one.id))
        elif fields is None:
            left.append(str(one.id))
    return taken, left


async def discard(server: Redis, shard: Shard, refused: Sequence[RefusedPayload]) -> list[str]:
    """Remove these for good; return the ids of those that were there. Raises RedisError."""
    return [str(one.id) for one in refused if await _remove(server, shard, one, {})]


async def _remove(server: Redis, shard: Shard, refused: RefusedPayload, fields: Mapping[bytes, bytes]) -> bool:
    """Take it out of the quarantine, and append the fields if there are any; whether it was there."""
    remove = server.register_script(REMOVE)
    keys = [shard.quarantine, index_of(shard.quarantine), shard.stream]
    flat = [part for pair in fields.items() for part in pair]
    return bool(await remove(keys=keys, args=[refused.id.redis, refused.fields.get(b"fingerprint", b""), *flat]))


def _fields(refused: RefusedPayload, proof: Proof | None) -> Mapping[bytes, bytes] | None:
    if proof is None or not refused.whole:
        return None
    try:
        return refused.entry(proof).to_fields()
    except InvalidEntry:  # somebody else wrote it
        return None
