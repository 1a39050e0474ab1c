import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.payload import InvalidPayload, decode, is_receipt
from tests.support.samples.events import event
from tests.support.samples.examples import NAMES, example
from worker.events.event import InvalidStatus


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("sig")])
def test_the_examples_are_told_apart(name: str) -> None:
    """Only the delivery receipts among the provider's payloads count as receipts."""
    assert is_receipt(decode(example(name).payload)) == name.startswith("dlr")


@pytest.mark.parametrize(
    ("fields", "receipt"),
    [
        ({"messageId": "m"}, True),
        ({"message-id": "m"}, True),
        ({"messageId": None}, True),
        ({"messageId": "m", "message_uuid": "u"}, False),
        ({"message-id": "m", "message_uuid": None}, False),
        ({"message_id": "m", "MessageId": "m", "sig": "00", "msisdn": "447700900000"}, False),
        ({}, False),
    ],
)
def test_what_makes_a_receipt(fields: dict[str, str | None], *, receipt: bool) -> None:
    """A receipt has an id field of receipts with any value, and no id of the Messages API."""
    assert is_receipt(decode(json.dumps(fields).encode())) == receipt


def test_a_receipt_is_a_receipt_however_it_is_sent() -> None:
    """A receipt is recognised as a query, form or JSON, also after blanks or a byte order mark."""
    fields = {"messageId": "m", "to": "a&b=c \u00e9"}
    form, body = urlencode(fields).encode(), json.dumps(fields).encode()
    for payload in (form, body, b" \r\n" + body, b"\xef\xbb\xbf" + body, b"\xef\xbb\xbf" + form, form + b"\n"):
        assert decode(payload) == fields
        assert is_receipt(decode(payload))


def test_of_a_name_that_comes_twice_the_last_one_counts() -> None:
    """In JSON and in a form alike, so that all who read a payload read the same."""
    assert decode(b'{"a":"1","a":"2"}') == decode(b"a=1&a=2") == {"a": "2"}


@given(st.binary() | st.binary().map(b"{".__add__))
def test_the_worker_refuses_for_the_same_reason(payload: bytes) -> None:
    """A payload that this module rejects is dead-lettered by the worker, with this module's error."""
    try:
        decode(payload)
    except InvalidPayload as exc:
        reason = str(exc)
    else:
        return
    with pytest.raises(InvalidStatus) as caught:
        event(payload)
    assert str(caught.value) == reason


@given(st.dictionaries(st.sampled_from(["messageId", "message_uuid"]), st.text(min_size=1, max_size=50), min_size=1))
def test_the_worker_tells_receipts_by_the_same_rule(fields: dict[str, str]) -> None:
    """The worker parses exactly those payloads as receipts that ingest treats as receipts."""
    payload = json.dumps(fields | {"status": "delivered", "msisdn": "of a receipt", "to": "of a message"}).encode()
    assert event(payload).to == ("of a receipt" if is_receipt(decode(payload)) else "of a message")
