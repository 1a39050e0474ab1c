"""Which records belong to a person."""

import pytest

from console.privacy.selection import Record, Selection, Subject
from runtime.errors import CommandError
from tests.support.samples.events import body


def has(subject: Subject, payload: bytes, **fields: bytes) -> bool:
    """Whether a record with this payload belongs to the subject."""
    more = {name.encode(): value for name, value in fields.items()}
    return Selection(subject).has(Record(b"1-0", {b"v": b"1", b"payload": payload, **more}))


def test_a_short_code_is_found_only_as_the_value_of_a_party() -> None:
    """A number with few digits matches a sender or recipient as a whole, and no code, price or longer number."""
    code = Subject(frozenset(("4479",)))

    assert has(code, body(**{"from": "4479"}))
    assert has(code, body(to={"type": "sms", "number": "+44 79"}))
    assert has(code, b"messageId=1&status=failed&to=4479")
    assert has(code, body(), query=b"from=4479")
    assert not has(code, body(to="44790", error={"title": "4479", "detail": "4479"}, usage={"price": "4479"}))
    assert not has(code, body(to="x4479", client_ref="4479"))


def test_a_message_and_a_reference_are_found_as_a_whole() -> None:
    """An id or a reference that only starts like the one, or that another field has, is another one."""
    message, reference = Subject(messages=frozenset(("m-1",))), Subject(client_refs=frozenset(("r-1",)))

    assert has(message, body())
    assert has(message, b'{"message_uuid":"m\\u002d1"}')
    assert has(message, b"message-id=m-1&status=x")
    assert has(message, b"\xff m-1 \xff")
    assert not has(message, body(message_uuid="m-12", client_ref="m-1"))
    assert not has(message, b"\xff m-12 x-m-1 \xff")
    assert has(reference, body(client_ref="r-1"))
    assert has(reference, b"message-id=m-1&client-ref=r-1&status=x")
    assert not has(reference, body(client_ref="r-12", message_uuid="r-1"))


def test_times_and_ids_of_an_entry_are_not_numbers_of_a_person() -> None:
    """The time of receipt and the random id of a receipt may have the same digits as a number."""
    fields = {"received_ms": b"1764000000000", "receipt": b"1764000000000", "attempt": b"1"}

    assert not has(Subject(frozenset(("1764000000000",))), body(), **fields)
    assert has(Subject(frozenset(("1764000000000",))), body(), message=b"no zone for 1764000000000")


def test_a_message_is_found_with_all_of_its_records() -> None:
    """After a look, a record without a number belongs to the person if its message or entry does."""
    selection = Selection(Subject(frozenset(("447700900001",))))
    selection.add(Record(b"1-0", {b"payload": body(to="447700900001")}, origin="0/1-0"))

    assert selection.has(Record(b"2-0", {b"payload": body(status="read")}))
    assert selection.has(Record(b"3-0", {b"outcome": b"handled"}, origin="0/1-0"))
    assert not selection.has(Record(b"4-0", {b"payload": body(message_uuid="m-2")}, origin="0/4-0"))


def test_a_sender_with_too_many_messages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a run has a limit; the error has the likely reason and the next step."""
    monkeypatch.setattr("console.privacy.selection.MOST_IDS", 3)
    selection = Selection(Subject(frozenset(("447700900001",))))

    records = [Record(b"1-0", {b"payload": body(message_uuid=f"m-{number}")}) for number in range(4)]
    for record in records[:3]:
        selection.add(record)
    with pytest.raises(CommandError, match="a sender of yours"):
        selection.add(records[3])
