import hiredis
from hypothesis import given
from hypothesis import strategies as st

from ingest.encoding import as_arguments, command, find_payload, find_traceparents, pack
from stream.entry import Entry
from tests.support.samples.entries import entries

webhooks = entries.map(
    lambda entry: entry._replace(replay=None, origin=None, attempt=None, error=None, unknown_fields=())
)  # no copies

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
words = st.sampled_from(["", "1", "v", "payload", "traceparent", "$7", "$55"])
arrays = webhooks.map(lambda entry: pack(entry)[1]) | st.integers(1, 300).map(
    lambda number: b"*%d\r\n" % number + command([b"x"] * number)
)


def read(packed: bytes) -> list[bytes]:
    reader = hiredis.Reader()
    reader.feed(packed)
    parts: list[bytes] = reader.gets()
    assert reader.gets() is False
    return parts


@given(webhooks)
def test_packed_is_what_the_wire_contract_says(entry: Entry) -> None:
    """A server reads the fields of ``to_fields``, and the packed entry has the receive time."""
    received_ms, array = pack(entry)
    parts = read(array)
    assert (received_ms, dict(zip(parts[::2], parts[1::2], strict=True))) == (entry.received_ms, entry.to_fields())


@given(webhooks)
def test_a_worker_reads_the_order_of_the_fields_fastest(entry: Entry) -> None:
    """The first six fields are in the order of ``to_fields``, after a trace context, which a payload may look like."""
    names = read(pack(entry)[1])[::2]
    first = [b"traceparent"] * (entry.traceparent is not None)
    assert names[: len(first) + 6] == [*first, *list(entry.to_fields())[:6]]


@given(words, st.none() | words, st.none() | words.map(str.encode), st.binary())
def test_payload_and_trace_are_found_beside_any_words(
    content_type: str, account: str | None, query: bytes | None, payload: bytes
) -> None:
    """The value of a field may be the name of another field, and a payload may be a packed entry."""
    inner = pack(Entry(payload, content_type, 1, "r", "jwt", account, account, query, TRACEPARENT))[1]
    outer = pack(Entry(inner, content_type, 1, "r", "jwt", account, account, query))[1]

    assert find_payload(inner) == payload
    assert find_traceparents([inner]) == [TRACEPARENT]
    assert find_payload(outer) == inner
    assert find_traceparents([outer]) == []


@given(st.lists(arrays, max_size=5))
def test_a_batch_becomes_parts_of_a_command(batch: list[bytes]) -> None:
    """After the leading parts of the command each entry has the number of its parts and the unchanged parts.

    A spool may have entries of a later version, with more parts.
    """
    count, arguments = as_arguments(batch)
    parts = read(b"*%d\r\n" % (2 + count) + command([b"EVALSHA", b"sha"]) + arguments)
    for array in batch:
        fields = read(array)
        at = len(parts) - count
        assert parts[at : at + 1 + len(fields)] == [b"%d" % len(fields), *fields]
        count -= 1 + len(fields)
    assert count == 0
