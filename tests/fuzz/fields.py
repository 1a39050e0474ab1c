"""Random entries: the fields of good ones, most of them spoilt. Pure: the same chance gives the same entries."""

import random
from collections.abc import Mapping

from stream.entry import Entry
from tests.fuzz.mutations import mutate

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
    *("from", "msisdn", "error", "err-code", "usage", "price", "client_ref", "workflow", "destination", "sms", "type"),
    *("dispatch_uuid", "whatsapp", "profile", "_links", "network-code", "api-key", "sig", "currency", "code"),
)


def entry(rng: random.Random) -> Fields:
    """Return the fields of one entry, mostly wrong ones."""
    original = Entry(
        payload=_payload(rng),
        content_type=rng.choice(("application/json", "application/x-www-form-urlencoded", "", "text/\x1b")),
        received_ms=rng.choice((0, 1_764_000_000_000, 253_402_300_799_999)),
        receipt=rng.randbytes(4).hex(),
        account=rng.choice((None, "", "abcd1234", "\u202e\x00")),
        query=rng.choice((None, b"", b"a=b&\xff")),
    )
    fields = original.to_fields()
    while rng.random() < 0.4:
        name = rng.choice(list(fields))
        rng.choice((_drop, _garble, _add, _number, _crowd))(rng, fields, name)
    return fields or {b"v": b"1"}


def _drop(_rng: random.Random, fields: dict[bytes, bytes], name: bytes) -> None:
    if len(fields) > 1:
        del fields[name]


def _garble(rng: random.Random, fields: dict[bytes, bytes], name: bytes) -> None:
    fields[name] = mutate(rng, fields[name] or b"x")


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
    payload = b"{" + b",".join(b'"%b":%b' % pair for pair in good.items()) + b"}"
    return mutate(rng, payload, 2) if rng.random() < 0.2 else payload


def _value(rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return b"{" + b",".join(b'"%b":%b' % (rng.choice(NAMES).encode(), rng.choice(TEXTS)) for _ in range(3)) + b"}"
    return rng.choice(TEXTS)
