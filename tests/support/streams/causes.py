"""Dead letters, invalid and quarantined payloads as worker and ingest write them."""

from collections.abc import Sequence
from typing import Any

import orjson
from redis.asyncio import Redis

from stream.entry import EntryId
from stream.keys import Shard
from tests.support.samples.events import RECEIVED_MS, body, entry
from tests.support.samples.tokens import ACCOUNT, NOW, bearer

NUMBER = "447700900123"
KEY_ERROR = "attempts: failed: KeyError at orders.py:88"
NO_ORDER = "discarded: no order"


async def add_dead(
    server: Redis,
    shard: Shard,
    group: str,
    number: int = 1,
    error: str = KEY_ERROR,
    *,
    payload: bytes | None = None,
    message: str = f"no zone for {NUMBER}",
    entry_id: str = "*",
    **fields: str,
) -> list[EntryId]:
    """Add dead letters to a group that is registered from now on; return their ids, the oldest first."""
    await server.sadd(shard.groups, group)
    errors = [{"class": "KeyError", "place": "orders.py:88", "ms": RECEIVED_MS + attempt} for attempt in range(8)]
    ids = []
    for place in range(number):
        sent = (
            payload if payload is not None else body(message_uuid=f"m-{place}", to=NUMBER, client_ref=f"order-{place}")
        )
        stored: Any = entry(sent, RECEIVED_MS + place, account=ACCOUNT, verified="jwt").to_fields() | {
            b"origin": b"0/%d-0" % (1000 + place),
            b"attempt": b"8",
            b"error": error.encode(),
            b"message": message.encode(),
            b"errors": orjson.dumps(errors),
            **{name.encode(): value.encode() for name, value in fields.items()},
        }
        ids.append(EntryId.from_redis(shard.number, await server.xadd(shard.dead(group), stored, id=entry_id)))
    return ids


async def add_invalid(server: Redis, shard: Shard, *payloads: bytes, error: str, signature: str = "wrong") -> list[str]:
    """Add payloads to the record of invalid ones; return their ids."""
    ids = []
    for payload in payloads:
        more = {b"origin": b"0/5-0", b"error": f"invalid-status: {error}".encode()}
        fields: Any = entry(payload, signature=signature, query=b"ref=7").to_fields() | more
        ids.append(str(EntryId.from_redis(shard.number, await server.xadd(shard.invalid, fields))))
    return ids


async def add_refused(
    server: Redis, shard: Shard, payload: bytes, *, reason: str = "signature", headers: Sequence[str] | None = None
) -> str:
    """Add a payload to the quarantine, by default with a token that the account's secret verifies; return its id."""
    values = bearer(payload) if headers is None else headers
    more = {
        b"reason": reason.encode(),
        b"fingerprint": b"%d" % hash(payload),
        b"authorization": "\n".join(values).encode(),
    }
    fields: Any = entry(payload, NOW * 1000).to_fields() | more
    await server.hset(shard.quarantine_index, more[b"fingerprint"].decode(), f"account {ACCOUNT}")
    return str(EntryId.from_redis(shard.number, await server.xadd(shard.quarantine, fields)))
