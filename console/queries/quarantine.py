"""Payloads whose signature was wrong: what came, why it was refused, and taking it in after all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from console.format import mask_numbers, received_at, to_text
from ingest.auth.jwt import Proof, Unsigned, Verifier, WrongSignature
from stream.entry import Entry, EntryId, InvalidEntry
from stream.keys import Shard

PAGE = 500

# KEYS: quarantine, stream. ARGV: the entry's id in quarantine, then the fields to append.
# Only one of two who accept the same entry appends it.
ACCEPT = """
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return false end
return redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
"""

_OWN = (b"reason", b"authorization", b"size")


@dataclass(frozen=True, slots=True)
class Refused:
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
        """The payload's bytes, as they came."""
        return len(self.fields.get(b"payload", b"")) if self.whole else int(self.fields[b"size"])

    def summary(self) -> dict[str, Any]:
        """Return the line of a listing."""
        return {
            "id": str(self.id),
            "reason": self.reason,
            "received_at": received_at(self.fields),
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
        authorization = self.fields.get(b"authorization", b"").decode(errors="surrogateescape")
        try:
            seconds = int(self.fields.get(b"received_ms", b"0")) // 1000
            return verifier.verify([authorization] if authorization else [], self.fields.get(b"payload", b""), seconds)
        except (Unsigned, WrongSignature):
            return None

    def entry(self, proof: Proof) -> Entry:
        """Return the entry to append. Raises InvalidEntry."""
        entry = Entry.from_fields({name: value for name, value in self.fields.items() if name not in _OWN})
        return entry._replace(
            verified=proof.verified, account=proof.account, application=proof.application, signature=proof.signature
        )


async def list_refused(server: Redis, shard: Shard, most: int) -> list[Refused]:
    """Return at most ``most`` refused payloads, the newest first. Raises RedisError."""
    found: Any = await server.xrevrange(shard.quarantine, count=most)
    return [Refused(EntryId.from_redis(shard.number, entry_id), fields) for entry_id, fields in found]


async def find_refused(server: Redis, shard: Shard, wanted: EntryId) -> Refused | None:
    """Return the refused payload with this id. Raises RedisError."""
    found: Any = await server.xrange(shard.quarantine, wanted.redis, wanted.redis)
    return Refused(wanted, found[0][1]) if found else None


async def accept(
    server: Redis, shard: Shard, refused: Sequence[Refused], verifier: Verifier | None, *, unproved: bool
) -> tuple[list[str], list[str]]:
    """Append those whose signature is right by now, each once; return their ids, and the ids of the others.

    With ``unproved`` those with a signature that is still wrong are appended too, as not verified. One that was too
    large to be kept stays. Raises RedisError.
    """
    move = server.register_script(ACCEPT)
    taken: list[str] = []
    left: list[str] = []
    for one in refused:
        proof = one.proof(verifier) or (Proof("none", None, None, "wrong") if unproved else None)
        fields = _fields(one, proof)
        if fields is None:
            left.append(str(one.id))
            continue
        flat = [part for pair in fields.items() for part in pair]
        if await move(keys=[shard.quarantine, shard.stream], args=[one.id.redis, *flat]):
            taken.append(str(one.id))
    return taken, left


def _fields(refused: Refused, proof: Proof | None) -> Mapping[bytes, bytes] | None:
    if proof is None or not refused.whole:
        return None
    try:
        return refused.entry(proof).to_fields()
    except InvalidEntry:  # somebody else wrote it
        return None
