import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import spool_file
from ingest.spool_fault import Damaged, Failing, Full
from ingest.spool_file import Packed, SpoolFile, pack, size_of
from ingest.spool_folder import log_of
from tests.events import RECEIVED_MS, entry
from tests.small_disk import fill, small_disk

MOST_BYTES = 2**30


def packed(*numbers: int, size: int = 10) -> list[Packed]:
    """Entries that can be told apart by their payload."""
    return [pack(RECEIVED_MS + n, fields(n, size)) for n in numbers]


def fields(number: int, size: int = 10) -> list[bytes]:
    payload = b"%d:" % number + b"x" * size
    return [part for pair in entry(payload, RECEIVED_MS + number).to_fields().items() for part in pair]


def numbers(found: spool_file.Slice | None) -> list[int]:
    """Which entries these are; each must be whole."""
    taken = [] if found is None else [list(one) for one in found.entries]
    which = [int(one[3].partition(b":")[0]) for one in taken]
    assert taken == [fields(n, len(one[3].partition(b":")[2])) for n, one in zip(which, taken, strict=True)]
    return which


def drained(file: SpoolFile, most_entries: int = 100) -> list[int]:
    """All that is in it, slice by slice."""
    found = []
    while (part := file.read(most_entries, MOST_BYTES)) is not None:
        found += numbers(part)
        file.confirm(part)
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool" / "000001.db"


@pytest.fixture
def file(path: Path) -> Iterator[SpoolFile]:
    with closing(SpoolFile.create(path)) as file:
        yield file


def crashed(path: Path) -> Path:
    """The file as a killed process leaves it: whatever the system was told to write."""
    return Path(shutil.copytree(path.parent, Path(tempfile.mkdtemp(dir=path.parent.parent)) / "left")) / path.name


def looked_at(path: Path) -> SpoolFile:
    """What was left there, as the next process finds it."""
    file = SpoolFile.left(path)
    file.look()
    return file


def test_what_was_put_comes_back_in_order_and_whole(file: SpoolFile) -> None:
    """Entries of any bytes, over several puts."""
    file.put(packed(1, 2, 3))
    file.put(packed(4, size=200_000))
    assert (file.rows, file.oldest_ms) == (4, RECEIVED_MS + 1)
    assert drained(file, 3) == [1, 2, 3, 4]
    assert (file.rows, file.bytes, file.oldest_ms) == (0, 0, None)
    file.put(packed(5))
    assert drained(file) == [5]


def test_what_is_not_confirmed_comes_again(file: SpoolFile) -> None:
    """Reading changes nothing."""
    file.put(packed(1, 2))
    assert numbers(file.read(1, MOST_BYTES)) == [1]
    assert numbers(file.read(9, MOST_BYTES)) == [1, 2]


def test_a_slice_has_limits(file: SpoolFile) -> None:
    """In entries and in bytes, but never less than one entry."""
    file.put(packed(*range(10), size=1000))
    assert numbers(file.read(4, MOST_BYTES)) == [0, 1, 2, 3]
    assert len(numbers(file.read(10, 5000))) < 5
    assert numbers(file.read(10, 1)) == [0]


def test_only_its_owner_may_read_it(path: Path, file: SpoolFile) -> None:
    """Payloads hold phone numbers."""
    file.put(packed(1))
    assert {oct(one.stat().st_mode)[-3:] for one in path.parent.iterdir()} == {"600"}
    assert {one.name for one in path.parent.iterdir()} == {path.name, log_of(path).name}


def test_its_log_does_not_grow_without_end(path: Path, file: SpoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved to its place every so often, be it by puts or by deletions."""
    monkeypatch.setattr(spool_file, "CHECKPOINT_BYTES", 100_000)
    for n in range(200):
        file.put(packed(n, size=5000))
    assert path.stat().st_size > 900_000
    assert log_of(path).stat().st_size < 200_000
    assert drained(file, 5) == list(range(200))
    assert log_of(path).stat().st_size < 200_000


def test_space_of_what_was_drained_is_used_again(path: Path, file: SpoolFile) -> None:
    """A file that is filled and drained in turn stays as large as what it held at most."""
    for _ in range(10):
        file.put(packed(*range(100), size=5000))
        assert drained(file) == list(range(100))
    file.close()
    assert path.stat().st_size < 3 * 100 * 5000


def test_whoever_comes_later_finds_it(path: Path, file: SpoolFile) -> None:
    """Killed after any put: all of it is there, with its count and its age."""
    file.put(packed(1, 2))
    part = file.read(1, MOST_BYTES)
    assert part is not None
    file.confirm(part)
    file.put(packed(3))
    with closing(looked_at(crashed(path))) as found:
        assert (found.rows, found.bytes, found.oldest_ms) == (2, file.bytes, RECEIVED_MS + 2)
        assert drained(found) == [2, 3]


operations = st.lists(
    st.tuples(st.just("put"), st.integers(1, 5))
    | st.tuples(st.just("drain"), st.integers(1, 7))
    | st.tuples(st.sampled_from(["read", "crash"]), st.just(1)),
    max_size=25,
)


@given(operations)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_acknowledged_is_lost_whatever_happens_in_between(tmp_path: Path, done: list[tuple[str, int]]) -> None:
    """Puts, drains, reads and kills in any order: what was put and not confirmed is there, once and in order."""
    path = Path(tempfile.mkdtemp(dir=tmp_path)) / "000001.db"
    file, waiting, number = SpoolFile.create(path), list[int](), 0
    for name, count in done:
        if name == "put":
            new = list(range(number, number + count))
            number += count
            file.put(packed(*new))
            waiting += new
        elif name == "crash":
            path = crashed(path)
            file.close()
            file = looked_at(path)
        else:
            part = file.read(count, MOST_BYTES)
            assert numbers(part) == waiting[: count if part else 0]
            if part is not None and name == "drain":
                file.confirm(part)
                del waiting[:count]
        assert file.rows == len(waiting)
    assert drained(file) == waiting
    file.close()


def test_a_torn_tail_costs_nothing_that_was_acknowledged(path: Path, file: SpoolFile) -> None:
    """Killed, or out of power, in the middle of a put: what was put before is there, and more can be put."""
    file.put(packed(1, 2))
    whole = log_of(path).stat().st_size
    file.put(packed(3, size=20_000))
    for kept_bytes in range(whole, log_of(path).stat().st_size, 1111):
        left = crashed(path)
        os.truncate(log_of(left), kept_bytes)
        with closing(looked_at(left)) as found:
            assert drained(found) == [1, 2]
            found.put(packed(4))
            assert drained(found) == [4]


def test_a_file_that_is_none_is_told(path: Path) -> None:
    """Garbage, another program's database, a file cut short: nothing can be found in it."""
    path.write_bytes(os.urandom(20_000))
    with pytest.raises(Damaged):
        looked_at(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE entries (a)")
    with pytest.raises(Damaged):
        looked_at(path)


def damaged(path: Path, where: int, garbage: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(where)
        file.write(garbage)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with 2,000 entries on some hundred pages."""
    path = tmp_path_factory.mktemp("large") / "spool" / "000001.db"
    path.parent.mkdir()
    with closing(SpoolFile.create(path)) as file:
        for n in range(0, 2000, 50):
            file.put(packed(*range(n, n + 50), size=500))
    return path


def test_of_a_damaged_file_all_is_read_that_is_not_damaged(large: Path) -> None:
    """A page of garbage in the middle hides the few entries on it; they are counted."""
    path = crashed(large)
    damaged(path, 100 * 4096, os.urandom(4096))
    with closing(looked_at(path)) as file:
        left = set(range(2000)) - set(drained(file))
        assert 0 < len(left) < 15
        assert left == set(range(min(left), max(left) + 1))
        assert file.damaged


def test_an_entry_that_is_not_what_was_put_is_left_out(large: Path) -> None:
    """A bit that has changed within a payload: SQLite does not see it, the checksum does."""
    path = crashed(large)
    content = path.read_bytes()
    damaged(path, content.index(b"777:xxx") + 6, b"y")
    with closing(looked_at(path)) as file:
        part = file.read(2000, MOST_BYTES)
        assert part is not None
        assert part.damaged == 1
        assert set(range(2000)) - set(numbers(part)) == {777}
        file.confirm(part)
        assert file.rows == 0


@given(
    st.integers(0, 2**20), st.binary(min_size=1, max_size=20_000), st.sampled_from(["cut", "overwrite"]), st.booleans()
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_makes_up_entries(
    large: Path, tmp_path: Path, where: int, garbage: bytes, how: str, in_log: bool
) -> None:
    """Whatever happens to its bytes, on their place or in the log: what is read was put, whole and in order."""
    path = Path(shutil.copytree(large.parent, Path(tempfile.mkdtemp(dir=tmp_path)) / "left")) / large.name
    with closing(looked_at(path)) as file:
        file.put(packed(2000, 2001, size=500))
        path = crashed(path)
    victim = log_of(path) if in_log else path
    place = where % victim.stat().st_size
    if how == "cut":
        os.truncate(victim, place)
    else:
        damaged(victim, place, garbage)
    try:
        file = looked_at(path)
    except Damaged:
        return
    with closing(file):
        found = drained(file, 300)
        assert found == sorted(set(found))


def test_a_full_disk_takes_nothing_and_gives_everything(tmp_path: Path) -> None:
    """Full is told and harms nothing: what was put before is drained, though not even deleting is possible."""
    with small_disk(tmp_path / "disk", 2**20) as disk, closing(SpoolFile.create(disk / "000001.db")) as file:
        count = 0
        with suppress(Full):
            while True:
                file.put(packed(*range(count, count + 10), size=2000))
                count += 10
        fill(disk)
        assert file.rows == count > 100
        assert drained(file, 7) == list(range(count))
        assert file.bytes > 0, "it was possible to delete: the disk was not full"
        with pytest.raises(Full):
            file.put(packed(count, size=2000))
        file.remove()
        assert os.statvfs(disk).f_bfree > 200, "its space was not given back"


def test_after_a_kill_on_a_full_disk_some_comes_again_and_nothing_is_lost(tmp_path: Path) -> None:
    """What was confirmed and could not be deleted is read once more by whoever comes later."""
    with small_disk(tmp_path / "disk", 2**20) as disk:
        file = SpoolFile.create(disk / "000001.db")
        file.put(packed(*range(100), size=2000))
        fill(disk)
        part = file.read(60, MOST_BYTES)
        assert part is not None
        file.confirm(part)
        log = log_of(file.path).read_bytes()
        file.close()
        log_of(file.path).write_bytes(log)  # as a kill leaves it
        with closing(looked_at(file.path)) as found:
            assert drained(found)[-40:] == list(range(60, 100))


def test_it_is_nobody_elses(path: Path, file: SpoolFile) -> None:
    """While it is open another program that opens it is told that it is locked, and does no harm."""
    file.put(packed(1))
    with closing(sqlite3.connect(path, timeout=0)) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT count(*) FROM entries")
    with pytest.raises(Failing):
        looked_at(path)


def test_sizes_are_counted_with_what_a_row_takes(file: SpoolFile) -> None:
    """So that the limit is one of the disk, about, not of payloads."""
    entries = packed(*range(1000), size=300)
    file.put(entries)
    assert file.bytes == size_of(entries)
    file.close()
    assert 0.8 < file.bytes / file.size_bytes() < 1.2
