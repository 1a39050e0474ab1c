import hashlib
import json
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.samples.events import RECEIVED_MS, body, entry, event
from tests.support.samples.examples import NAMES, example
from tests.support.samples.expected_rows import NO_STATUS
from worker.events.event import InvalidStatus
from worker.events.vonage import decode, parse

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
NAMED = [
    "message_uuid",
    "messageId",
    "message-id",
    "dispatch_uuid",
    "status",
    "to",
    "from",
    "timestamp",
    "channel",
    "client_ref",
    "error",
    "usage",
    "workflow",
    "sms",
    "destination",
    "_links",
    "price",
    "err-code",
    "scts",
    "message-timestamp",
    "msisdn",
    "api-key",
]
names = st.sampled_from(NAMED)
status_like = st.dictionaries(names, json_values | st.sampled_from(["m-1", "delivered"]), max_size=10)


def try_parse(payload: bytes) -> None:
    try:
        status_event = event(payload)
    except InvalidStatus:
        return
    texts = [
        status_event.message_uuid,
        status_event.status,
        status_event.to,
        status_event.sender,
        status_event.client_ref,
        status_event.error_text,
        status_event.channel,
    ]
    assert all("\0" not in text for text in texts if text is not None)
    assert 1 <= len(status_event.message_uuid) <= 255


@given(st.binary())
def test_any_bytes_give_an_event_or_invalid_status(payload: bytes) -> None:
    """For any bytes, parse returns an event or raises InvalidStatus."""
    try_parse(payload)


@given(status_like)
def test_any_object_gives_an_event_or_invalid_status(fields: dict[str, Any]) -> None:
    """For objects with the fields of a status and any values, parse returns an event or raises InvalidStatus."""
    try_parse(json.dumps(fields).encode())


@given(st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"])), max_size=10))
def test_any_form_gives_an_event_or_invalid_status(fields: dict[str, str]) -> None:
    """For any form, parse returns an event or raises InvalidStatus."""
    try_parse(urlencode(fields).encode())


@given(st.data())
def test_any_damage_to_an_example_gives_an_event_or_invalid_status(data: st.DataObject) -> None:
    """For real payloads with a part removed or inserted, parse returns an event or raises InvalidStatus."""
    payload = example(data.draw(st.sampled_from(NAMES))).payload
    start = data.draw(st.integers(0, len(payload)))
    end = data.draw(st.integers(start, len(payload)))
    try_parse(payload[:start] + data.draw(st.binary(max_size=8)) + payload[end:])


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "no message_uuid"),
        (b"hello", "no message_uuid"),
        (b"\xff\xfe", "no message_uuid"),
        (b"{", "not valid JSON"),
        (b'{"message_uuid":"m-1","status":"x","n":NaN}', "not valid JSON"),
        (b"[]", "not an object"),
        (b'{"status":"delivered"}', "no message_uuid"),
        (b'{"message_uuid":"","status":"delivered"}', "1 to 255 bytes"),
        (b'{"message_uuid":{},"status":"delivered"}', "1 to 255 bytes"),
        (body(message_uuid="x" * 256), "1 to 255 bytes"),
        (body(message_uuid="\u00e9" * 128), "1 to 255 bytes"),
        (b'{"message_uuid":"m-1"}', "status"),
        (body(status=""), "status"),
        (body(status=1), "status"),
        (body(status="x" * 256), "status"),
        (b'{"message_uuid":"1","status":"x","x":' + b"[" * 1100 + b"]" * 1100 + b"}", "not valid JSON"),
        (b'{"message_uuid":"1","status":"x","x":' + b"[" * 1024 + b"1e999" + b"]" * 1024 + b"}", "not valid JSON"),
    ],
)
def test_an_invalid_payload_is_refused_with_the_reason(payload: bytes, why: str) -> None:
    """The reason says why the payload is invalid, and quotes no part of it."""
    with pytest.raises(InvalidStatus, match=why):
        event(payload)


@pytest.mark.parametrize("name", sorted(NO_STATUS))
def test_examples_without_a_status_are_refused(name: str) -> None:
    """Some real webhooks are not about a message."""
    with pytest.raises(InvalidStatus, match=NO_STATUS[name]):
        event(example(name).payload)


def test_unknown_statuses_channels_and_fields_are_accepted() -> None:
    """An unknown status or channel is stored as sent, and unknown fields stay in `raw`."""
    payload = body(status="seen", channel="carrier-pigeon", wubwub={"Prop0": 1})
    status_event = event(payload)
    assert (status_event.status, status_event.channel, decode(status_event.raw)["wubwub"], status_event.raw) == (
        "seen",
        "carrier-pigeon",
        {"Prop0": 1},
        payload,
    )


@pytest.mark.parametrize(
    ("sent", "price"),
    [
        (b'"0.0333"', "0.0333"),
        (b'"0.03330000"', "0.03330000"),
        (b"0.03330000", "0.03330000"),
        (b"0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        (b"1e-2", "1e-2"),
        (b"12", "12"),
        (b"123456789012345678901234567890", "123456789012345678901234567890"),
        (b'"free"', None),
        (b"true", None),
        (b"{}", None),
    ],
)
def test_prices_are_exact(sent: bytes, price: str | None) -> None:
    """A price is the decimal exactly as sent, as a text or as a number."""
    assert event(b'{"message_uuid":"m","status":"s","usage":{"price":%b}}' % sent).price == price
    assert event(b'{"messageId":"m","status":"s","price":%b}' % sent).price == price


def test_a_claimed_account_may_be_any_number() -> None:
    """A number with a fraction keeps its digits."""
    assert event(b'{"messageId":"m","status":"s","api-key":1.50}').account == "1.50"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        ({"title": 1260, "type": "https://x.test/e#1260", "detail": "d"}, "1260", "d"),
        ({"title": "1260", "detail": "d"}, "1260", "d"),
        ({"title": "Throttled", "type": "https://x.test/e#1000"}, "1000", "Throttled"),
        ({"type": "https://x.test/e#1000", "detail": "d"}, "1000", "d"),
        ({"code": 1300, "reason": "Not part of the network"}, "1300", "Not part of the network"),
        ({}, None, None),
        ("1260", None, None),
    ],
)
def test_errors_of_both_versions_are_read(error: object, code: str | None, text: str | None) -> None:
    """v1 has the code in title or type, v0.1 in code; the text is detail, reason or a title in words."""
    status_event = event(body(error=error))
    assert (status_event.error_code, status_event.error_text) == (code, text)


def test_workflows_are_read_in_both_spellings() -> None:
    """Both spellings fill the same columns; an empty workflow gives None."""
    long = event(body(workflow={"workflow_id": "w", "items_number": "1", "items_total": "2"}))
    short = event(body(workflow={"id": "w", "item_number": "1", "total_items": "2"}))
    for status_event in (long, short):
        assert (status_event.workflow_id, status_event.workflow_item, status_event.workflow_items) == ("w", "1", "2")
    assert event(body(workflow={})).workflow_id is None


def test_ids_other_than_phone_numbers_are_accepted() -> None:
    """The id of a WhatsApp user or the name of a sender stays as sent."""
    status_event = event(body(to="US.13491208655302741918", **{"from": "AcmeInc"}))
    assert (status_event.to, status_event.sender) == ("US.13491208655302741918", "AcmeInc")


def test_a_viber_message_of_v01_has_its_channel_from_its_party() -> None:
    """v0.1 has no channel; the type of `to` gives it."""
    status_event = event(
        b'{"message_uuid":"m","status":"read","to":{"type":"viber_service_msg","number":"447700900001"}}'
    )
    assert (status_event.channel, status_event.to) == ("viber_service_msg", "447700900001")


@pytest.mark.parametrize("depth", range(4))
def test_an_error_inside_another_is_read(depth: int) -> None:
    """`error.error`, and deeper levels, give the same code and text as `error`."""
    error: dict[str, Any] = {"type": "https://x.test/e#1000", "title": "Throttled", "detail": "d"}
    for _ in range(depth):
        error = {"error": error, "instance": "x"}
    status_event = event(body(error=error))
    assert (status_event.error_code, status_event.error_text) == ("1000", "d")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("accepted", "submitted"),
        ("buffered", "submitted"),
        ("delivered", "delivered"),
        ("expired", "rejected"),
        ("failed", "rejected"),
        ("rejected", "rejected"),
        ("unknown", "rejected"),
        ("something-new", "something-new"),
    ],
)
def test_statuses_of_delivery_receipts_are_mapped(sent: str, status: str) -> None:
    """`status` has the mapped status, and `provider_status` the one that was sent."""
    status_event = event(orjson.dumps({"messageId": "1", "status": sent, "err-code": "4"}))
    assert (status_event.status, status_event.provider_status) == (status, sent)
    assert (status_event.error_code, status_event.error_text) == ("4", "Call barred by the user")


def test_a_delivery_receipt_is_the_same_event_in_every_form() -> None:
    """Query, form and JSON of one receipt, in any order and with any signature, have the same event_id."""
    fields = {"messageId": "0A", "msisdn": "447700900000", "status": "delivered", "client-ref": "a b"}
    signed = fields | {"sig": "x", "nonce": "y", "timestamp": "1"}
    other_order = dict(reversed(fields.items()))
    forms = [urlencode(fields), urlencode(other_order), urlencode(signed), orjson.dumps(signed).decode()]
    ids = {event(form.encode()).event_id for form in forms}
    pairs = sorted([name, value] for name, value in fields.items())
    assert ids == {hashlib.sha256(orjson.dumps(pairs)).hexdigest()}
    assert event(urlencode(fields | {"status": "failed"}).encode()).event_id not in ids


def test_the_id_of_other_events_is_the_hash_of_their_bytes() -> None:
    """event_id is the sha256 of the payload."""
    assert event(body()).event_id == hashlib.sha256(body()).hexdigest()


def test_a_verified_account_replaces_a_claimed_one() -> None:
    """A delivery receipt claims its api-key; the account of a signature replaces it."""
    claim = b'{"messageId":"1","status":"delivered","api-key":"claimed"}'
    assert (event(claim).account, event(claim).account_verified) == ("claimed", False)
    proved = event(claim, account="proved", verified="sig")
    assert (proved.account, proved.account_verified) == ("proved", True)


def test_the_time_of_receipt_is_exact_to_the_millisecond() -> None:
    """received_at is received_ms of the entry, in UTC."""
    status_event = parse(entry(body(), RECEIVED_MS + 7), "0/1-0")
    assert status_event.received_at.isoformat() == "2025-11-24T16:00:00.007000+00:00"
    assert status_event.time == status_event.received_at


def test_blanks_and_a_byte_order_mark_around_json_do_not_matter() -> None:
    """The first character decides that a payload is JSON, and not the Content-Type."""
    assert event(b"\xef\xbb\xbf\r\n " + body() + b"\n").message_uuid == "m-1"
