"""The entries of a spool file that is torn, damaged, or on a full disk."""

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.spool.database import wal_path
from ingest.spool.errors import Damaged, Full
from ingest.spool.file import SpoolFile
from tests.support.faults.small_disk import fill, small_disk
from tests.support.samples.spooled import MOST_BYTES, copy_as_killed, drain, numbers, pack_entries, recover


def test_a_torn_tail_costs_nothing_that_was_acknowledged(path: Path, file: SpoolFile) -> None:
    """After a kill or a power cut during a put, all earlier entries are there, and more can be put."""
    file.put(pack_entries(1, 2))
    full_bytes = wal_path(path).stat().st_size
    file.put(pack_entries(3, size=20_000))
    for kept_bytes in range(full_bytes, wal_path(path).stat().st_size, 1111):
        crashed_copy = copy_as_killed(path)
        os.truncate(wal_path(crashed_copy), kept_bytes)
        with closing(recover(crashed_copy)) as reopened:
            assert drain(reopened) == [1, 2]
            reopened.put(pack_entries(4))
            assert drain(reopened) == [4]


def test_a_file_that_is_none_is_told(path: Path) -> None:
    """Garbage, another program's database, a file cut short: nothing can be found in it."""
    path.write_bytes(os.urandom(20_000))
    with pytest.raises(Damaged):
        recover(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE entries (a)")
    with pytest.raises(Damaged):
        recover(path)


def damage(path: Path, where: int, garbage: bytes) -> None:
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
            file.put(pack_entries(*range(n, n + 50), size=500))
    return path


def test_of_a_damaged_file_all_is_read_that_is_not_damaged(large: Path) -> None:
    """A page of garbage in the middle hides the few entries on it; they are counted."""
    path = copy_as_killed(large)
    damage(path, 100 * 4096, os.urandom(4096))
    with closing(recover(path)) as file:
        missing = set(range(2000)) - set(drain(file))
        assert 0 < len(missing) < 15
        assert missing == set(range(min(missing), max(missing) + 1))
        assert file.damaged


def test_an_entry_that_is_not_what_was_put_is_left_out(large: Path) -> None:
    """A bit that has changed within a payload: SQLite does not see it, the checksum does."""
    path = copy_as_killed(large)
    content = path.read_bytes()
    damage(path, content.index(b"777:xxx") + 6, b"y")
    with closing(recover(path)) as file:
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
    """With any damaged bytes in the file or its log, every entry that is read is whole, unchanged and in order."""
    path = Path(shutil.copytree(large.parent, Path(tempfile.mkdtemp(dir=tmp_path)) / "left")) / large.name
    with closing(recover(path)) as file:
        file.put(pack_entries(2000, 2001, size=500))
        path = copy_as_killed(path)
    victim = wal_path(path) if in_log else path
    place = where % victim.stat().st_size
    if how == "cut":
        os.truncate(victim, place)
    else:
        damage(victim, place, garbage)
    try:
        file = recover(path)
    except Damaged:
        return
    with closing(file):
        numbers_read = drain(file, 300)
        assert numbers_read == sorted(set(numbers_read))


def test_a_full_disk_takes_nothing_and_gives_everything(tmp_path: Path) -> None:
    """A full disk is reported and does no harm: earlier entries are drained, although it cannot be recorded."""
    with small_disk(tmp_path / "disk", 2**20) as disk, closing(SpoolFile.create(disk / "000001.db")) as file:
        count = 0
        with suppress(Full):
            while True:
                file.put(pack_entries(*range(count, count + 10), size=2000))
                count += 10
        fill(disk)
        assert file.rows == count > 100
        assert drain(file, 7) == list(range(count))
        assert file.behind, "it was possible to note that: the disk was not full"
        with pytest.raises(Full):
            file.put(pack_entries(count, size=2000))
        file.remove()
        assert os.statvfs(disk).f_bfree > 200, "its space was not given back"


def test_after_a_kill_on_a_full_disk_some_comes_again_and_nothing_is_lost(tmp_path: Path) -> None:
    """A confirmed file that could not be deleted is drained again by the next process."""
    with small_disk(tmp_path / "disk", 2**20) as disk:
        file = SpoolFile.create(disk / "000001.db")
        file.put(pack_entries(*range(100), size=2000))
        fill(disk)
        part = file.read(60, MOST_BYTES)
        assert part is not None
        file.confirm(part)
        log = wal_path(file.path).read_bytes()
        file.close()
        wal_path(file.path).write_bytes(log)  # as a kill leaves it
        with closing(recover(file.path)) as again:
            assert drain(again)[-40:] == list(range(60, 100))
