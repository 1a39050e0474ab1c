"""A damaged or wrongly encoded text loses no more than the damaged characters."""

import pytest

from tests.support.samples.events import event
from worker.events.vonage import decode


@pytest.mark.parametrize("name", ["client_ref", "messageId", "message_uuid", "status", "unknown"])
@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"Ann \\ud83d", "Ann \ufffd"),
        (b"\\ude00\\ud83d Ann", "\ufffd\ufffd Ann"),
        (b"\\ud83d\\ude00\\ud83d\\ud83d\\ude00", "\U0001f600\ufffd\U0001f600"),
        (b"\\\\ud83d\\ud83d", "\\ud83d\ufffd"),
        (b"Ann \xf0\x9f\x98", "Ann \ufffd"),
        (b"caf\xe9", "caf\ufffd"),
    ],
)
def test_a_damaged_character_in_json_becomes_the_replacement_character(name: str, sent: bytes, text: str) -> None:
    """Half a surrogate pair, or bytes that are not UTF-8, lose only this character."""
    payload = b'{"status":"x"%b,"%b":"%b"}' % (
        b"" if name == "messageId" else b',"message_uuid":"m"',
        name.encode(),
        sent,
    )
    status_event = event(payload)
    assert decode(payload)[name] == text
    assert status_event.raw == payload
    if name not in ("messageId", "unknown"):
        assert getattr(status_event, name) == text


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"caf%E9", "caf\xe9"),
        (b"caf\xe9+au+lait", "caf\xe9 au lait"),
        (b"Ren%e9%20M%fcller", "Ren\xe9 M\xfcller"),
        (b"Ann+%F0%9F%98", "Ann \ufffd"),
        (b"Ann+%C3%A9", "Ann \xe9"),
        (b"50%+off%", "50% off%"),
    ],
)
def test_a_receipt_in_latin_1_is_decoded(sent: bytes, text: str) -> None:
    """A value of a form that is not UTF-8 is read as Latin-1; one that ends inside a character loses it."""
    assert event(b"messageId=m&status=delivered&client-ref=" + sent).client_ref == text


@pytest.mark.parametrize(
    ("number", "depth"), [(b"1e999", 0), (b"-1e999", 500), (b"9" * 400, 500), (b"1.5", 500), (b"1.5", 1000)]
)
def test_a_number_of_any_size_is_valid(number: bytes, depth: int) -> None:
    """A number beyond the range of a float is valid JSON, also in a deeply nested payload."""
    nested = b"[" * depth + b"]" * depth
    status_event = event(
        b'{"message_uuid":"m","status":"s","client_ref":%b,"x":%b,"to":"t"}' % (number, nested or b"0")
    )
    assert (status_event.message_uuid, status_event.to) == ("m", "t")
    assert status_event.client_ref in (number.decode(), None)
