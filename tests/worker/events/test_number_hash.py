"""The replacement of phone numbers in events by keyed hashes."""

from dataclasses import fields
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.samples.events import body, event
from worker.events.event import StatusEvent
from worker.events.number_hash import HIDDEN, MOST_DEPTH, PREFIX, NumberHash
from worker.events.numbers import NumberFinder
from worker.events.samples import DISPATCH, RECEIPT, SENDER, STATUSES, TO, payload

NUMBER_HASH = NumberHash("a key of at least thirty-two characters")
ANOTHER = NumberHash("another key of at least thirty-two characters")
NUMBER = "447700900123"
HASHED = NUMBER_HASH.hash(NUMBER)
CHANGED = frozenset(("event_id", "to", "sender", "raw", "query"))
SPELLINGS = (NUMBER, f"+{NUMBER}", f"00{NUMBER}", "+44 7700 900-123", int(NUMBER), "+44 (0)7700 900123")


def has_number(hidden: StatusEvent, *numbers: str) -> bool:
    """Whether any field of an event has one of the numbers in any spelling."""
    finder = NumberFinder(frozenset(numbers))
    return any(finder.is_in(str(getattr(hidden, field.name))) for field in fields(hidden))


@pytest.mark.parametrize(
    ("channel", "status"), [(name, one) for name in STATUSES if name != DISPATCH for one in STATUSES[name]]
)
def test_an_event_keeps_everything_but_its_numbers(channel: str, status: str) -> None:
    """Each status of each channel has hashes of sender and recipient, the same whenever it is hidden."""
    original = event(payload(channel, status), query=urlencode({"of": f"+{TO}"}).encode())
    hidden = NUMBER_HASH.hide(original)

    assert not has_number(hidden, TO, SENDER)
    assert hidden == NUMBER_HASH.hide(original)
    assert ANOTHER.hide(original) not in (hidden, original)
    assert hidden.event_id == NUMBER_HASH.hash_id(original.event_id)
    names = {field.name for field in fields(original)} - CHANGED
    assert {name: getattr(hidden, name) for name in names} == {name: getattr(original, name) for name in names}
    assert original.to != TO or hidden.to == NUMBER_HASH.hash(TO)
    assert channel == RECEIPT or orjson.loads(hidden.raw).keys() == orjson.loads(original.raw).keys()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_has_the_same_hash(spelling: Any) -> None:
    """The hash is that of the digits; the number goes from other texts, names and lists too."""
    more = {
        "error": {"detail": f"no route to {spelling}."},
        "x": [[f"{spelling}"]],
        f"{spelling}": 1,
        "short": NUMBER[2:],
    }
    hidden = NUMBER_HASH.hide(event(body(to=spelling, **more)))

    assert (hidden.to, has_number(hidden, NUMBER)) == (HASHED, False)
    assert hidden.error_text in (f"no route to {HASHED}.", HIDDEN)
    assert orjson.loads(hidden.raw)["short"] == NUMBER[2:]


def test_numbers_with_a_fraction_stay_exact() -> None:
    """A price that a float cannot hold keeps its digits, and values without numbers stay as they are."""
    payload_with_price = b'{"message_uuid":"m","status":"read","to":"%s","usage":{"price":0.10000000000000000001}}'
    original = event(payload_with_price % NUMBER.encode())
    without = event(body(to="Acme", **{"from": "12345"}))

    assert NUMBER_HASH.hide(original).price == original.price == "0.10000000000000000001"
    assert NUMBER_HASH.hide(without) is without
    assert NUMBER_HASH.hide(report := event(payload(DISPATCH, "completed"))) is report


def test_deep_values_are_left_out() -> None:
    """A payload that nests lists a thousand deep loses them, with and without a number with a fraction."""
    for value in ("1", "1.5"):
        deep = f'{{"message_uuid":7,"status":"read","to":{NUMBER},"x":[{value},{"[" * 1000}{value}{"]" * 1000}]}}'
        hidden = NUMBER_HASH.hide(event(deep.encode()))

        assert (hidden.to, hidden.status, has_number(hidden, NUMBER)) == (HASHED, "read", False)
        assert hidden.raw.count(b"[") <= MOST_DEPTH


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    more=st.dictionaries(
        st.sampled_from(["from", "error", "usage", "timestamp", "y"]) | st.text(max_size=4), json_values
    )
)
def test_any_payload_is_hidden(more: dict[str, Any]) -> None:
    """Whatever else a payload has, its state is as before, and it has no number of its own."""
    original = event(body(**(more | {"message_uuid": "m", "status": "read", "to": NUMBER})))
    hidden = NUMBER_HASH.hide(original)

    assert hidden.to == HASHED
    assert hidden.to is not None
    assert hidden.to.startswith(PREFIX)
    assert (hidden.message_uuid, hidden.status, hidden.time) == (original.message_uuid, original.status, original.time)
    assert not NumberFinder(frozenset((NUMBER,))).is_in(hidden.raw.decode())
