"""Payloads are shown with masked numbers."""

import orjson
import pytest

from console.queries.timeline.payload import MOST_CHARACTERS, mask_text, show_payload
from console.queries.timeline.summary import sum_up_groups, sum_up_webhook

NUMBER = "447700900123"
UUID = "3f8a1c52-7b0e-4d19-9a6e-512345678901"


@pytest.mark.parametrize("text", [NUMBER, f"+{NUMBER}", "+44 7700 900-123", "(0) 7700.900.123", f"tel:{NUMBER};ext=1"])
def test_a_number_in_any_form_keeps_its_end_only(text: str) -> None:
    """Blanks, dots, dashes and brackets do not hide a number from the mask; at most four digits stay."""
    masked = mask_text(text)
    assert sum(character.isdigit() for character in masked.partition(";")[0]) <= 4
    assert "•" in masked


def test_ids_times_and_small_numbers_stay() -> None:
    """A payload is readable: only numbers that can be phone numbers are masked, also as integers and in names."""
    payload = {
        "message_uuid": UUID,
        "timestamp": "2026-11-28T12:14:05Z",
        "to": NUMBER,
        "from": int(NUMBER),
        "usage": {"price": "0.0382", "count": 2},
        "list": [NUMBER, True, None],
        NUMBER: "x",
    }
    shown = show_payload(orjson.dumps(payload), reveal=False)

    assert NUMBER not in shown
    for text in (UUID, "2026-11-28T12:14:05Z", '"0.0382"', '"count": 2', "true", "null"):
        assert text in shown


def test_forms_and_damaged_payloads_are_masked_too() -> None:
    """A form has a line for each field; bytes that are no text are escaped."""
    assert (
        show_payload(f"msisdn={NUMBER}&status=delivered".encode(), reveal=False)
        == "msisdn=••••••••0123\nstatus=delivered"
    )
    damaged = show_payload(b'["\xff' + NUMBER.encode(), reveal=False)
    assert NUMBER not in damaged
    assert "\\xff" in damaged


def test_a_revealed_payload_is_the_text_as_sent() -> None:
    """Nothing is formatted, so that a person sees the bytes that Vonage has sent."""
    payload = b'{"to":"447700900123",  "price":0.10}'
    assert show_payload(payload, reveal=True) == payload.decode()


def test_hostile_payloads_are_bounded() -> None:
    """A long or deeply nested payload is cut."""
    deep = b'{"a":' * 900 + b"1" + b"}" * 900
    assert "…" in show_payload(deep, reveal=False)
    assert len(show_payload(b'{"a":"' + b"x" * 100_000 + b'"}', reveal=False)) == MOST_CHARACTERS + 1


def make_group(name: str, state: str, attempts: int | None = None, dead_letter: str | None = None) -> dict[str, object]:
    return {"group": name, "state": state, "attempts": attempts, "dead_letter": dead_letter}


def test_a_webhook_is_summed_up_by_its_gravest_states() -> None:
    """The sentence names the groups; equal states are joined."""
    sentences = {
        "settled by all 2 groups": [make_group("a", "settled"), make_group("b", "settled")],
        "settled by a": [make_group("a", "settled")],
        "b gave it up, settled by a and c": [
            make_group("a", "settled"),
            make_group("b", "dead letter"),
            make_group("c", "settled"),
        ],
        "b will try again, a has not read it yet, …": [
            make_group("a", "unread"),
            make_group("b", "delayed"),
            make_group("c", "settled"),
        ],
        "no group reads the stream yet": [],
    }
    assert {sum_up_webhook({"groups": groups}): groups for groups in sentences.values()} == sentences


def test_a_group_is_summed_up_over_all_webhooks() -> None:
    """The gravest state counts; attempts are added, and unknown ones do not count as 0."""
    webhooks = [
        {"groups": [make_group("a", "settled", 1), make_group("b", "unread")]},
        {"groups": [make_group("a", "dead letter", 3, "0/1-0"), make_group("b", "unread")]},
    ]
    assert sum_up_groups(webhooks) == [
        {"group": "a", "state": "dead letter", "attempts": 4, "dead_letters": ["0/1-0"]},
        {"group": "b", "state": "unread", "attempts": None, "dead_letters": []},
    ]
