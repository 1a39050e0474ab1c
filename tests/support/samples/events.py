"""Making payloads, entries and events for tests."""

from typing import Any

import orjson
from hypothesis import strategies as st

from stream.entry import Entry
from worker.events.event import StatusEvent
from worker.events.vonage import parse

RECEIVED_MS = 1_764_000_000_000


def entry(
    payload: bytes, received_ms: int = RECEIVED_MS, *, content_type: str = "application/json", **fields: Any
) -> Entry:
    return Entry(payload, content_type, received_ms, "receipt-0", **fields)


def flat(fields: dict[bytes, bytes]) -> list[bytes]:
    """Names and values in turn, as Redis gives them."""
    return [part for pair in fields.items() for part in pair]


def body(**fields: Any) -> bytes:
    return orjson.dumps({"message_uuid": "m-1", "status": "delivered", "channel": "sms"} | fields)


def event(payload: bytes, received_ms: int = RECEIVED_MS, at: str = "0/1-0", **fields: Any) -> StatusEvent:
    return parse(entry(payload, received_ms, **fields), at)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


statuses = st.sampled_from(["submitted", "delivered", "read", "rejected", "undeliverable", "seen", "accepted"])
times = st.sampled_from(
    ["2020-01-01T14:00:00.000Z", "2020-01-01T14:00:01Z", "2020-01-01 16:00:00 +0200", "2020-01-01T15:02:03.4Z"]
)
prices = st.sampled_from(["0.0333", "0.03330000", "1e-2", "0"])

messages_api = st.fixed_dictionaries(
    {"status": statuses},
    optional={
        "timestamp": times | st.just({}),
        "channel": st.sampled_from(["sms", "whatsapp", "carrier-pigeon"]),
        "to": st.sampled_from(["447700900000", "a\0b"]),
        "client_ref": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        "usage": st.fixed_dictionaries({}, optional={"price": prices, "currency": st.sampled_from(["EUR", "USD"])}),
        "error": st.fixed_dictionaries({}, optional={"title": st.sampled_from(["1000", 1260]), "detail": st.just("x")}),
        "sms": st.just({"count_total": "2"}),
        "destination": st.fixed_dictionaries({"network_code": st.sampled_from(["23410", "26201"])}),
        "workflow": st.just({"id": "w-1", "item_number": "1"}) | st.just({}),
    },
)
receipts = st.fixed_dictionaries(
    {"status": st.sampled_from(["accepted", "delivered", "failed", "new"])},
    optional={
        "message-timestamp": st.just("2020-01-01 14:00:00"),
        "scts": st.sampled_from(["2001011400", "1577880000"]),
        "err-code": st.sampled_from(["0", "4", "99", "77"]),
        "api-key": st.sampled_from(["abcd1234", "other"]),
        "price": prices,
        "nonce": st.sampled_from(["a", "b"]),
    },
)


@st.composite
def deliveries(draw: st.DrawFn, messages: int = 3, limit: int = 12) -> list[tuple[bytes, int, str | None]]:
    """Payloads of a few messages as they might come in: (payload, received_ms, verified account), with repetitions."""
    ids = st.integers(0, messages - 1).map(lambda number: f"m-{number}")
    bodies = [
        orjson.dumps({"message_uuid" if api else "messageId": draw(ids)} | draw(messages_api if api else receipts))
        for api in draw(st.lists(st.booleans(), min_size=1, max_size=limit // 2))
    ]
    received = st.integers(RECEIVED_MS, RECEIVED_MS + 3000)
    account = st.sampled_from([None, None, "verified-1", "verified-2"])
    return draw(st.lists(st.tuples(st.sampled_from(bodies), received, account), min_size=1, max_size=limit))


def events_of(delivered: list[tuple[bytes, int, str | None]]) -> list[StatusEvent]:
    """Return the events of these deliveries; the entry id is the place in the list, so it is unique."""
    return [
        event(payload, received_ms, f"0/{received_ms}-{n}", account=account, verified="jwt" if account else "none")
        for n, (payload, received_ms, account) in enumerate(delivered)
    ]
