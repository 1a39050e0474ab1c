import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.spool import file as spool_file
from ingest.spool.database import wal_path
from ingest.spool.errors import Failing
from ingest.spool.file import SpoolFile
from ingest.spool.record import entries_bytes
from tests.support.samples.events import RECEIVED_MS
from tests.support.samples.spooled import MOST_BYTES, copy_as_killed, drain, numbers, pack_entries, recover


def test_what_was_put_comes_back_in_order_and_whole(file: SpoolFile) -> None:
    """Entries of any bytes, over several puts."""
    file.put(pack_entries(1, 2, 3))
    file.put(pack_entries(4, size=200_000))
    assert (file.rows, file.oldest_ms) == (4, RECEIVED_MS + 1)
    assert drain(file, 3) == [1, 2, 3, 4]
    assert (file.rows, file.bytes, file.oldest_ms) == (0, 0, None)
    file.put(pack_entries(5))
    assert drain(file) == [5]


def test_what_is_not_confirmed_comes_again(file: SpoolFile) -> None:
    """Reading changes nothing."""
    file.put(pack_entries(1, 2))
    assert numbers(file.read(1, MOST_BYTES)) == [1]
    assert numbers(file.read(9, MOST_BYTES)) == [1, 2]


def test_a_slice_has_limits(file: SpoolFile) -> None:
    """In entries and in bytes, but never less than one entry."""
    file.put(pack_entries(*range(10), size=1000))
    assert numbers(file.read(4, MOST_BYTES)) == [0, 1, 2, 3]
    assert len(numbers(file.read(10, 5000))) < 5
    assert numbers(file.read(10, 1)) == [0]


def test_only_its_owner_may_read_it(path: Path, file: SpoolFile) -> None:
    """Payloads hold phone numbers."""
    file.put(pack_entries(1))
    assert {oct(file_path.stat().st_mode)[-3:] for file_path in path.parent.iterdir()} == {"600"}
    assert {file_path.name for file_path in path.parent.iterdir()} == {path.name, wal_path(path).name}


def test_its_log_does_not_grow_without_end(path: Path, file: SpoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved to its place every so often, be it by puts or by confirmations."""
    monkeypatch.setattr(spool_file, "CHECKPOINT_BYTES", 100_000)
    for n in range(200):
        file.put(pack_entries(n, size=5000))
    assert path.stat().st_size > 900_000
    assert wal_path(path).stat().st_size < 200_000
    assert drain(file, 5) == list(range(200))
    assert wal_path(path).stat().st_size < 200_000


def test_whoever_comes_later_finds_it(path: Path, file: SpoolFile) -> None:
    """Killed after any put: all of it is there, with its count and its age."""
    file.put(pack_entries(1, 2))
    part = file.read(1, MOST_BYTES)
    assert part is not None
    file.confirm(part)
    file.put(pack_entries(3))
    with closing(recover(copy_as_killed(path))) as file_again:
        assert (file_again.rows, file_again.bytes, file_again.oldest_ms) == (2, file.bytes, RECEIVED_MS + 2)
        assert drain(file_again) == [2, 3]


operations = st.lists(
    st.tuples(st.just("put"), st.integers(1, 5))
    | st.tuples(st.just("drain"), st.integers(1, 7))
    | st.tuples(st.sampled_from(["read", "crash"]), st.just(1)),
    max_size=25,
)


@given(operations)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_acknowledged_is_lost_whatever_happens_in_between(
    tmp_path: Path, actions: list[tuple[str, int]]
) -> None:
    """After puts, drains, reads and kills in any order, every unconfirmed entry is there, once and in order."""
    path = Path(tempfile.mkdtemp(dir=tmp_path)) / "000001.db"
    file, waiting, number = SpoolFile.create(path), list[int](), 0
    for name, count in actions:
        if name == "put":
            new = list(range(number, number + count))
            number += count
            file.put(pack_entries(*new))
            waiting += new
        elif name == "crash":
            path = copy_as_killed(path)
            file.close()
            file = recover(path)
        else:
            part = file.read(count, MOST_BYTES)
            assert numbers(part) == waiting[: count if part else 0]
            if part is not None and name == "drain":
                file.confirm(part)
                del waiting[:count]
        assert file.rows == len(waiting)
    assert drain(file) == waiting
    file.close()


def test_it_is_nobody_elses(path: Path, file: SpoolFile) -> None:
    """Another program that opens the file in use gets an error that it is locked, and does no harm."""
    file.put(pack_entries(1))
    with closing(sqlite3.connect(path, timeout=0)) as database, pytest.raises(sqlite3.OperationalError, match="locked"):
        database.execute("SELECT count(*) FROM entries")
    with pytest.raises(Failing):
        recover(path)


def test_sizes_are_counted_with_what_a_row_takes(file: SpoolFile) -> None:
    """The sizes include the overhead of a row, so the limit is about one of the disk and not of payloads."""
    entries = pack_entries(*range(1000), size=300)
    file.put(entries)
    assert file.bytes == entries_bytes(entries)
    file.close()
    assert 0.8 < file.bytes / file.size_bytes() < 1.2
