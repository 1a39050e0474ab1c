"""Damaged pages of a spool file: lost entries, salvaged entries and their counts."""

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.spool.file import SpoolFile
from tests.support.faults.redis_outages import read_metric
from tests.support.samples.spool_folders import drain_files, run_files
from tests.support.samples.spooled import MOST_BYTES, pack_entries, recover

PAGE_BYTES = 4096
ENTRIES = 1500
COUNTERS = ("found", "drained", "set_aside")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one file of 1,500 entries."""
    data = tmp_path_factory.mktemp("large") / "data"
    with run_files(data) as files:
        for number in range(0, ENTRIES, 50):
            files.put(pack_entries(*range(number, number + 50), size=500))
    return data


def leaf_pages(path: Path) -> list[int]:
    """The numbers, from 0, of the pages that hold entries: leaves of a table (13), the one with the marks left out."""
    with closing(sqlite3.connect(path)) as connection:
        roots = {root for (root,) in connection.execute("SELECT rootpage FROM sqlite_master")}
    content = path.read_bytes()
    pages = range(len(content) // PAGE_BYTES)
    return [page for page in pages if content[page * PAGE_BYTES] == 13 and page + 1 not in roots]


def other_pages(path: Path) -> list[int]:
    """Those without entries but for the marks: the first, and the inner ones of the tree."""
    content = path.read_bytes()
    pages = range(len(content) // PAGE_BYTES)
    return [page for page in pages if content[page * PAGE_BYTES] == 5 or page == 0]


def marks_page(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'marks'").fetchone()[0]) - 1


def damage(path: Path, page: int, garbage: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE_BYTES)
        file.write((garbage * PAGE_BYTES)[:PAGE_BYTES])


def copy(data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data, Path(tempfile.mkdtemp(dir=tmp_path)) / "data"))


def file_in(data: Path) -> Path:
    return data / "spool" / "0" / "000001.db"


def drain_some(data: Path, number: int) -> None:
    """Drain this many entries, then act as if killed: the file stays as it is."""
    with closing(recover(file_in(data))) as file:
        while number and (part := file.read(min(number, 250), MOST_BYTES)):
            file.confirm(part)
            number -= len(part.entries)


@given(
    st.integers(0, ENTRIES - 1),
    st.lists(st.integers(0, 10_000), min_size=1, max_size=4),
    st.sampled_from([b"\0", b"\xff", bytes(range(256)), b"\x0d\0\0\0\x01\x0f\xf0"]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_page_loses_only_its_entries_whatever_was_drained_before(
    large: Path, tmp_path: Path, before: int, places: list[int], garbage: bytes, with_marks: bool
) -> None:
    """Any pages of entries, the first and the last too: found = drained + set aside, to the entry."""
    data = copy(large, tmp_path)
    drain_some(data, before)
    path = file_in(data)
    leaves = leaf_pages(path)
    pages = {leaves[place % len(leaves)] for place in places}
    for page in pages:
        damage(path, page, garbage)
    if with_marks:
        damage(path, marks_page(path), garbage)
    counts = {name: read_metric(f"spool_{name}_entries_total") for name in COUNTERS}

    with run_files(data) as files:
        numbers_read = drain_files(files)

    recovered, given_back, lost = (read_metric(f"spool_{name}_entries_total") - counts[name] for name in COUNTERS)
    assert files.held.entries == 0
    assert recovered == given_back + lost
    assert given_back == len(numbers_read)
    assert numbers_read == sorted(set(numbers_read))
    per_page = ENTRIES // len(leaves) + 2
    if with_marks:  # the confirmed number is lost: all entries are drained again, but the last ones may be hidden
        assert len(numbers_read) >= ENTRIES - before - per_page * len(pages) or max(pages) == leaves[-1]
    else:
        assert recovered == ENTRIES - before
        assert set(numbers_read) <= set(range(before, ENTRIES))
        assert lost <= per_page * len(pages)
    assert path.with_suffix(".damaged").exists() or (not lost and not with_marks)


@pytest.mark.parametrize("garbage", [b"\0", bytes(range(255, 0, -1))])
def test_a_page_without_entries_loses_none(large: Path, tmp_path: Path, garbage: bytes) -> None:
    """The first page of the file, the roots of its tables, an inner page: all entries are drained, in order."""
    pages = other_pages(file_in(large))
    assert len(pages) >= 2
    for page in pages:
        data = copy(large, tmp_path)
        damage(file_in(data), page, garbage)
        with run_files(data) as files:
            assert drain_files(files) == list(range(ENTRIES))
        assert file_in(data).with_suffix(".damaged").exists()


@pytest.mark.parametrize("page", ["first", "last"])
def test_long_entries_of_a_damaged_file_are_found(tmp_path: Path, page: str) -> None:
    """Payloads of several pages are put together again, whichever page of the tree is damaged."""
    sizes = (10, 3_000, 5_000, 60_000, 4_060)
    data = tmp_path / "data"
    with run_files(data) as files:
        for number, size in enumerate(sizes):
            files.put(pack_entries(number, size=size))
    path = file_in(data)
    damage(path, 0 if page == "first" else marks_page(path), b"\xff")
    with run_files(data) as files:
        assert drain_files(files) == list(range(len(sizes)))
    assert path.with_suffix(".damaged").exists()


def test_without_a_tree_long_entries_and_those_of_the_log_are_found(tmp_path: Path) -> None:
    """Payloads of several pages and a write-ahead log of a killed process are read too."""
    data = tmp_path / "data"
    with run_files(data) as files:
        files.put(pack_entries(0, 1, 2, size=60_000))
        files.put(pack_entries(3, 4))
        crashed_copy = copy(data, tmp_path)
    log = file_in(crashed_copy).with_name("000001.db-wal").read_bytes()
    file_in(crashed_copy).write_bytes(os.urandom(8192))
    with run_files(crashed_copy) as files:
        numbers_read = drain_files(files)
    assert numbers_read == [0, 1, 2, 3, 4], len(log)


def test_marks_that_were_changed_lose_nothing(large: Path, tmp_path: Path) -> None:
    """A number that claims that all was drained is not believed: its checksum is wrong."""
    data = copy(large, tmp_path)
    with closing(sqlite3.connect(file_in(data))) as connection, connection:
        connection.execute("UPDATE marks SET confirmed = last")
    with run_files(data) as files:
        assert drain_files(files) == list(range(ENTRIES))


@pytest.mark.parametrize("victim", ["file", "log"])
def test_a_file_whose_setting_aside_fails_keeps_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    """If one of the two renames fails, the next start completes it."""
    data = tmp_path / "data"
    with run_files(data) as files:
        files.put(pack_entries(1, 2))
        crashed_copy = copy(data, tmp_path)  # as a kill leaves it, with its log
    path = file_in(crashed_copy)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith("-wal") == (victim == "log"):
            raise PermissionError
        return rename(self, target)

    with monkeypatch.context() as failing:
        failing.setattr(Path, "rename", fail)
        with closing(SpoolFile.recover(path)) as file, pytest.raises(Exception, match="unknown"):
            file.set_aside()
    with run_files(crashed_copy) as files:
        files.take_over()
    names = {file_path.name for file_path in path.parent.iterdir()} - {"lock", "owner"}
    assert names in (
        {"000001.db", "000001.db-wal", "000002.db"},
        {"000001.damaged", "000001.damaged-wal"},
        {"000001.db"},
    )


def test_a_spool_that_is_filled_and_drained_in_turn_gives_its_space_back(tmp_path: Path) -> None:
    """Nothing is deleted within a file, so a file goes when it is drained, and is never larger than its limit."""
    with run_files(tmp_path) as files:
        for _ in range(20):
            files.put(pack_entries(*range(100), size=10_000))
            assert drain_files(files) == list(range(100))
        assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 12 * 2**20
