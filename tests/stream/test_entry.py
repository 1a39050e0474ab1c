import base64
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream.entry import Entry, EntryId, InvalidEntry
from tests.support.samples.entries import entries
from tests.support.samples.events import flat

GOLDEN = Path(__file__).parents[1] / "fixtures" / "entries" / "v1.json"


LEAST = Entry(b'{"message_uuid":"m-1"}', "application/json", 1764000000000, "0123456789abcdef-0")
WHOLE = Entry(
    payload=b'\x00\xff\xfe{"x":1}\r\n',
    content_type="",
    received_ms=0,
    receipt="0123456789abcdef-1",
    verified="jwt",
    account="a1b2c3d",
    application="aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
    query=b"a=b%20c",
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    replay="replay-1",
    origin="0/1764000000000-7",
    attempt=3,
    error="invalid-status: no message_uuid",
)


def golden(name: str) -> dict[bytes, bytes]:
    case = next(entry for entry in orjson.loads(GOLDEN.read_bytes())["entries"] if entry["name"] == name)
    return {field.encode(): base64.b64decode(value) for field, value in case["fields"].items()}


@pytest.mark.parametrize(("name", "entry"), [("least", LEAST), ("whole", WHOLE)])
def test_version_1_is_read_and_written_as_ever(name: str, entry: Entry) -> None:
    """The golden file's fields and these entries are the same, in both directions."""
    assert Entry.from_fields(golden(name)) == entry
    assert entry.to_fields() == golden(name)


@given(entries)
def test_any_entry_survives_the_wire(entry: Entry) -> None:
    """`from_fields` decodes the output of `to_fields` to an equal entry."""
    assert Entry.from_fields(entry.to_fields()) == entry


@given(st.dictionaries(st.sampled_from([*WHOLE.to_fields(), b"other"]) | st.binary(), st.binary()))
def test_any_fields_give_an_entry_or_invalid_entry(fields: dict[bytes, bytes]) -> None:
    """Any fields either decode or raise InvalidEntry."""
    try:
        Entry.from_fields(fields)
    except InvalidEntry:
        return


@given(
    entries.map(lambda entry: [*entry.to_fields().items()]).flatmap(
        lambda pairs: st.just(pairs) | st.permutations(pairs)
    ),
    st.dictionaries(st.sampled_from([*WHOLE.to_fields(), b"other"]), st.none() | st.just(b"2") | st.binary()),
)
@example([*LEAST.to_fields().items()], {b"received_ms": b"", b"verified": b"2"})
@example([*LEAST.to_fields().items()], {b"received_ms": b"", b"content_type": b"\xff"})
def test_names_and_values_in_turn_are_read_like_fields(
    pairs: list[tuple[bytes, bytes]], change: dict[bytes, bytes | None]
) -> None:
    """In any order, complete or not, both decoders give the same entry, or InvalidEntry for the same reason."""
    changed = dict(pairs) | change
    fields = {name: value for name, value in changed.items() if value is not None}

    def read(how: Callable[[], Entry]) -> Entry | str:
        try:
            return how()
        except InvalidEntry as exc:
            return str(exc)

    assert read(lambda: Entry.from_flat(flat(fields))) == read(lambda: Entry.from_fields(fields))


@pytest.mark.parametrize("name", [b"payload", b"account"])
@pytest.mark.parametrize("turned", [False, True], ids=["as written", "in another order"])
def test_a_field_that_comes_twice_is_refused(name: bytes, *, turned: bool) -> None:
    """Redis would take it, and it is unknown which of both was meant."""
    fields = list(WHOLE.to_fields().items())
    twice = [*(fields[::-1] if turned else fields), (name, b"{}")]
    with pytest.raises(InvalidEntry, match="repeated"):
        Entry.from_flat([part for pair in twice for part in pair])


@pytest.mark.parametrize(
    "change",
    [
        {b"v": b"2"},
        {b"v": None},
        {b"payload": None},
        {b"receipt": None},
        {b"verified": b"maybe"},
        {b"received_ms": b"-1"},
        {b"received_ms": b"01"},
        {b"received_ms": b"253402300800000"},
        {b"received_ms": "\u0661".encode()},
        {b"attempt": b"x"},
        {b"account": b"\xff"},
        {b"origin": b""},
        {b"origin": b"0/7"},
    ],
)
def test_other_fields_are_refused(change: dict[bytes, bytes | None]) -> None:
    """A missing or ill-formed field, or another version, is InvalidEntry."""
    fields = {name: value for name, value in (LEAST.to_fields() | change).items() if value is not None}
    with pytest.raises(InvalidEntry):
        Entry.from_fields(fields)


def test_an_entry_id_is_written_shard_ms_seq() -> None:
    """The form that people see is read back to the same id."""
    entry_id = EntryId.from_redis(3, b"1764000000000-12")
    assert str(entry_id) == "3/1764000000000-12"
    assert EntryId.from_text(str(entry_id)) == entry_id
    assert entry_id.redis == "1764000000000-12"


@pytest.mark.parametrize("text", ["", "1764000000000-0", "0/1764000000000", "0/x-0", "0/1-0 ", "-1/1-0", "0/\u0661-0"])
def test_other_texts_are_no_entry_id(text: str) -> None:
    """Anything but shard/ms-seq is a ValueError that shows the right form."""
    with pytest.raises(ValueError, match="shard/ms-seq"):
        EntryId.from_text(text)


@given(st.integers(0, 2**48), st.integers(0, 2**64 - 1))
def test_before_is_the_next_lower_id(ms: int, seq: int) -> None:
    """No id lies between an id and its predecessor."""
    entry_id = EntryId(0, ms, seq)
    before = entry_id.before()
    if (ms, seq) == (0, 0):
        assert before == entry_id
    else:
        assert before < entry_id
        assert (before.ms, before.seq + 1) == (ms, seq) or (before.ms + 1, before.seq, seq) == (ms, 2**64 - 1, 0)


@given(st.integers(0, 2**48), st.integers(0, 2**64 - 1) | st.just(2**64 - 1))
def test_after_undoes_before(ms: int, seq: int) -> None:
    """The next higher id is the one that this one is before."""
    entry_id = EntryId(0, ms, seq)
    assert entry_id < entry_id.after()
    assert entry_id.after().before() == entry_id
