"""Entries of random fields, put straight into the stream for a real worker: each becomes a row or a dead letter."""

import random
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from console.stats import stats
from stream.entry import Entry, EntryId, InvalidEntry
from stream.keys import Shard
from tests.fuzz.mutations import mutated
from tests.processes import Process
from tests.waiting import until
from worker.status import InvalidStatus
from worker.tables import status_events
from worker.vonage import parse

GROUPS = ("store", "log")
MOST_ENTRIES = 200_000
BATCH = 100
STUCK_SECONDS = 60.0

Fields = Mapping[bytes, bytes]

# Texts that have been trouble to somebody, as JSON writes them.
TEXTS = (
    *(
        b'""',
        b'"a"',
        b'" "',
        b'"\\u0000"',
        b'"\\ud800"',
        b'"\\udfff\\ud800"',
        b'"\\u202e"',
        b'"\\u001b[31m"',
        b'"\xff"',
    ),
    *(b'"' + b"x" * 300 + b'"', b'"' + b"y" * 70_000 + b'"', b"1e999", b"NaN", b"Infinity", b"-0", b"1e-400", b"true"),
    *(b"18446744073709551616", b"9" * 400, b"null", b"{}", b"[]", b'{"a":' * 100 + b"1" + b"}" * 100, b"[" * 2000),
    *(b'"2020-01-01T14:00:00.000Z"', b'"9999-12-31T23:59:59Z"', b'"0001-01-01 00:00:00 +1400"', b'"2001000000"'),
    *(b'"0.0333"', b'"1e400"', b'"-1"', b'"NaN"', b'"delivered"', b'"submitted"', b'"sms"', b'"447700900000"'),
)
NAMES = (
    *("message_uuid", "messageId", "message-id", "status", "timestamp", "message-timestamp", "scts", "channel", "to"),
    *(
        "from",
        "msisdn",
        "error",
        "err-code",
        "usage",
        "price",
        "client_ref",
        "workflow",
        "destination",
        "sms",
        "dispatch_uuid",
    ),
    *(
        "whatsapp",
        "profile",
        "_links",
        "network-code",
        "api-key",
        "sig",
        "nonce",
        "currency",
        "count_total",
        "type",
        "code",
    ),
)


@dataclass(slots=True)
class Put:
    """The entries that were put, and what has become of them."""

    entries: dict[str, Fields] = field(default_factory=dict)
    dead: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        dead = ", ".join(f"{number:,} {reason}" for reason, number in sorted(self.dead.items()))
        return f"{len(self.entries):,} entries: {len(self.entries) - self.dead.total():,} stored; dead letters: {dead}"


def entry(rng: random.Random) -> Fields:
    """Return the fields of one entry, mostly wrong ones."""
    whole = Entry(
        payload=_payload(rng),
        content_type=rng.choice(("application/json", "application/x-www-form-urlencoded", "", "text/\x1b")),
        received_ms=rng.choice((0, 1_764_000_000_000, 253_402_300_799_999)),
        receipt=secrets.token_hex(4),
        account=rng.choice((None, "", "abcd1234", "\u202e\x00")),
        query=rng.choice((None, b"", b"a=b&\xff")),
    )
    fields = whole.to_fields()
    while rng.random() < 0.4:
        name = rng.choice(list(fields))
        rng.choice((_drop, _garble, _add, _number, _crowd))(rng, fields, name)
    return fields or {b"v": b"1"}


def _drop(_rng: random.Random, fields: dict[bytes, bytes], name: bytes) -> None:
    if len(fields) > 1:
        del fields[name]


def _garble(rng: random.Random, fields: dict[bytes, bytes], name: bytes) -> None:
    fields[name] = mutated(rng, fields[name] or b"x")


def _add(rng: random.Random, fields: dict[bytes, bytes], _name: bytes) -> None:
    name = rng.choice((b"attempt", b"origin", b"error", b"replay", b"traceparent", b"\xff", b"", rng.randbytes(5)))
    fields[name] = rng.randbytes(rng.choice((0, 1, 10, 1000)))


def _number(rng: random.Random, fields: dict[bytes, bytes], _name: bytes) -> None:
    name = rng.choice((b"v", b"received_ms", b"attempt"))
    fields[name] = rng.choice((b"", b"0", b"2", b"-1", b"01", b"1.5", b"9" * 30, b"\xd9\xa1", b"1" * 5000, b"NaN"))


def _crowd(rng: random.Random, fields: dict[bytes, bytes], _name: bytes) -> None:
    if rng.random() < 0.02:
        fields |= {b"field-%d" % number: b"" for number in range(rng.choice((100, 5000, 20_000)))}


def _payload(rng: random.Random) -> bytes:
    kind = rng.randrange(10)
    if kind == 0:
        return rng.randbytes(rng.choice((0, 1, 50, 5000)))
    if kind == 1:
        return rng.choice((b"[" * 5000, b'{"a":' * 3000, b"{}", b"null", b'"', b"\xef\xbb\xbf{}", b"[]," * 40_000))
    if kind == 2:
        pairs = (
            f"{rng.choice(NAMES)}={rng.choice(('delivered', '%ff', '%00', '447700900000', '1.5', ''))}"
            for _ in range(8)
        )
        return "&".join(pairs).encode()
    good = {b"message_uuid": b'"fuzz-%d"' % rng.randrange(1000), b"status": b'"delivered"', b"channel": b'"sms"'}
    for _ in range(rng.choice((0, 1, 3, 8))):
        good[rng.choice(NAMES).encode()] = _value(rng)
    whole = b"{" + b",".join(b'"%b":%b' % pair for pair in good.items()) + b"}"
    return mutated(rng, whole, 2) if rng.random() < 0.2 else whole


def _value(rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return b"{" + b",".join(b'"%b":%b' % (rng.choice(NAMES).encode(), rng.choice(TEXTS)) for _ in range(3)) + b"}"
    return rng.choice(TEXTS)


async def fuzz(server: Redis, shard: Shard, engine: AsyncEngine, worker: Process, seed: int, seconds: float) -> Put:
    """Put entries for so long, wait until the worker has dealt with all of them, and judge."""
    rng, put, deadline = random.Random(seed), Put(), time.monotonic() + seconds  # noqa: S311 - no secret
    while time.monotonic() < deadline and len(put.entries) < MOST_ENTRIES:
        some = [entry(rng) for _ in range(BATCH)]
        async with server.pipeline() as pipe:
            for fields in some:
                put_in: Any = fields
                pipe.xadd(shard.stream, put_in)
            put.entries |= {made.decode(): fields for made, fields in zip(await pipe.execute(), some, strict=True)}
        await _keeps_up(server, shard, deadline)
    await _settled(server, shard, worker)
    await _judge(put, server, shard, engine)
    await _passes(server, shard, engine)
    assert not [line for line in worker.said.splitlines() if "Traceback" in line or '"level": "error"' in line]
    return put


async def _outstanding(server: Redis, shard: Shard) -> int:
    groups = (await stats(server, shard))["groups"]
    return sum(group["outstanding"] for group in groups.values()) if len(groups) == len(GROUPS) else BATCH


async def _keeps_up(server: Redis, shard: Shard, deadline: float) -> None:
    async def enough() -> bool:
        return await _outstanding(server, shard) < 20 * BATCH or time.monotonic() > deadline

    await until(enough, seconds=STUCK_SECONDS)


async def _settled(server: Redis, shard: Shard, worker: Process) -> None:
    async def settled() -> bool:
        return worker.lives() and await _outstanding(server, shard) == 0

    try:
        await until(settled, seconds=STUCK_SECONDS)
    except AssertionError:
        pending: Any = [await server.xpending_range(shard.stream, group, "-", "+", 3) for group in GROUPS]
        raise AssertionError(f"stuck: {pending}\n{worker.said[-2000:]}") from None


async def _judge(put: Put, server: Redis, shard: Shard, engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        rows = {row.event_id for row in await connection.execute(select(status_events.c.event_id))}
    for group in GROUPS:
        buried: Any = await server.xrange(shard.dead(group))
        dead = {EntryId.from_text(fields[b"origin"].decode()).redis: fields[b"error"] for _, fields in buried}
        assert len(buried) == len(dead), "an entry was buried twice"
        for entry_id, fields in put.entries.items():
            good = _event_id(fields, entry_id)
            assert (good is None) == (entry_id in dead), f"{group}: {entry_id} {dict(fields)!r:.2000}"
            assert good is None or good in rows, f"not stored: {entry_id} {dict(fields)!r:.2000}"
    put.dead.update(error.partition(b":")[0].decode() for error in dead.values())


def _event_id(fields: Fields, entry_id: str) -> str | None:
    try:
        return parse(Entry.from_fields(fields), f"0/{entry_id}").event_id
    except (InvalidEntry, InvalidStatus):
        return None


async def _passes(server: Redis, shard: Shard, engine: AsyncEngine) -> None:
    """Put a good one, and return when it is stored."""
    message_uuid = f"good-{secrets.token_hex(6)}"
    payload = orjson.dumps({"message_uuid": message_uuid, "status": "delivered", "channel": "sms"})
    fields: Any = Entry(payload, "application/json", 1_764_000_000_000, "good").to_fields()
    await server.xadd(shard.stream, fields)

    async def stored() -> bool:
        async with engine.connect() as connection:
            query = select(status_events.c.event_id).where(status_events.c.message_uuid == message_uuid)
            return len((await connection.execute(query)).all()) == 1

    await until(stored)
