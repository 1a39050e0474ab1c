import hiredis
from hypothesis import given
from hypothesis import strategies as st

from ingest.encoding import as_arguments, command, pack
from stream.entry import Entry
from tests.support.samples.entries import entries

webhooks = entries.map(
    lambda entry: entry._replace(replay=None, origin=None, attempt=None, error=None, unknown_fields=())
)  # no copies


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


@given(st.lists(webhooks, max_size=5))
def test_a_batch_becomes_parts_of_a_command(batch: list[Entry]) -> None:
    """After the leading parts of the command each entry has the number of its parts and the unchanged parts."""
    arrays = [pack(entry)[1] for entry in batch]
    count, arguments = as_arguments(arrays)
    parts = read(b"*%d\r\n" % (2 + count) + command([b"EVALSHA", b"sha"]) + arguments)
    for array in arrays:
        fields = read(array)
        at = len(parts) - count
        assert parts[at : at + 1 + len(fields)] == [b"%d" % len(fields), *fields]
        count -= 1 + len(fields)
    assert count == 0
