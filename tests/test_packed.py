import hiredis
from hypothesis import given
from hypothesis import strategies as st

from ingest.packed import as_arguments, command, pack
from stream.entry import LATEST_MS, Entry

texts = st.text(st.characters(exclude_categories=["Cs"]))
webhooks = st.builds(
    Entry,
    payload=st.binary(),
    content_type=texts,
    received_ms=st.integers(0, LATEST_MS),
    receipt=texts,
    verified=st.sampled_from(["jwt", "sig", "none"]),
    account=st.none() | texts,
    application=st.none() | texts,
    query=st.none() | st.binary(),
    traceparent=st.none() | texts,
    **dict.fromkeys(["replay", "origin", "attempt", "error"], st.none()),  # which copies have
)


def read(packed: bytes) -> list[bytes]:
    reader = hiredis.Reader()
    reader.feed(packed)
    found: list[bytes] = reader.gets()
    assert reader.gets() is False
    return found


@given(webhooks)
def test_packed_is_what_the_wire_contract_says(entry: Entry) -> None:
    """A server that reads it finds the fields of ``to_fields``, and it bears the time of the receipt."""
    received_ms, array = pack(entry)
    parts = read(array)
    assert (received_ms, dict(zip(parts[::2], parts[1::2], strict=True))) == (entry.received_ms, entry.to_fields())


@given(st.lists(webhooks, max_size=5))
def test_a_batch_becomes_parts_of_a_command(entries: list[Entry]) -> None:
    """Behind what the command begins with: for each entry the number of its parts, and these, unchanged."""
    arrays = [pack(entry)[1] for entry in entries]
    count, arguments = as_arguments(arrays)
    parts = read(b"*%d\r\n" % (2 + count) + command([b"EVALSHA", b"sha"]) + arguments)
    for array in arrays:
        fields = read(array)
        at = len(parts) - count
        assert parts[at : at + 1 + len(fields)] == [b"%d" % len(fields), *fields]
        count -= 1 + len(fields)
    assert count == 0
