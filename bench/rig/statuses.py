"""Statuses of a given size, and the entries that ingest would append for statuses.

The texts are random, so that no database packs them into fewer bytes than real ones.
"""

import hashlib
from collections.abc import Iterable, Iterator
from uuid import UUID

import orjson

from bench.rig.payloads import ACCOUNT, payloads
from stream.entry import Entry

LEAST_BYTES = 350
_FIRST_MS = 1_738_584_865_000
_APPLICATION = str(UUID(int=0xAAAAAAAABBBB4CCC8DDD0123456789AB))


def sized_payloads(number: int, size: int) -> list[bytes]:
    """Return different statuses of exactly ``size`` bytes: three a message, interleaved, with random message ids."""
    return [_resize(payload, size) for payload in payloads(number)]


def entries(bodies: Iterable[bytes]) -> Iterator[Entry]:
    """Yield an entry for each payload, a millisecond after the one before."""
    for number, payload in enumerate(bodies):
        yield Entry(
            payload=payload,
            content_type="application/json",
            received_ms=_FIRST_MS + number,
            receipt=f"benchbenchbenchb-{number:x}",
        )


def signed_entries(bodies: list[bytes]) -> Iterator[Entry]:
    """Yield the entries of signed webhooks with these bodies, as ingest appends them."""
    for entry in entries(bodies):
        yield entry._replace(verified="jwt", account=ACCOUNT, application=_APPLICATION)


def _resize(payload: bytes, size: int) -> bytes:
    fields = orjson.loads(payload)
    digest = hashlib.sha256(fields["message_uuid"].encode()).digest()
    fields["message_uuid"] = str(UUID(bytes=digest[:16], version=4))
    if size < len(payload) + len(',"note":""'):
        del fields["whatsapp"], fields["workflow"]
    fields["note"] = ""
    missing = size - len(orjson.dumps(fields))
    assert missing >= 0, f"a status has at least {LEAST_BYTES} bytes, and {size} are wanted"
    fields["note"] = hashlib.shake_256(digest).hexdigest(missing // 2 + 1)[:missing]
    return orjson.dumps(fields)
