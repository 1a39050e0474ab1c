"""Entries are erased from a spool that no process has, and the others are drained as before."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ingest.spool.eraser import SpooledEntry, erase_entries, read_entries, read_running
from ingest.spool.errors import Damaged, SpoolFault
from ingest.spool.file import SpoolFile
from tests.support.samples.spooled import drain, pack_entries, recover


def number_of(entry: SpooledEntry) -> int:
    payload = dict(zip(entry.flat[::2], entry.flat[1::2], strict=True))[b"payload"]
    return int(payload.partition(b":")[0])


def is_even(entry: SpooledEntry) -> bool:
    return number_of(entry) % 2 == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with ten entries, three of them confirmed, as a process left it."""
    file = SpoolFile.create(tmp_path / "000001.db")
    file.put(pack_entries(*range(1, 11)))
    part = file.read(3, 1 << 20)
    assert part is not None
    file.confirm(part)
    file.close()
    return file.path


def test_entries_are_erased_and_the_others_are_drained_in_their_order(path: Path) -> None:
    """Entries that Redis has confirmed leave the file too, and nothing of an erased entry stays in it."""
    assert [number_of(entry) for entry in read_entries(path)] == list(range(1, 11))

    assert erase_entries(path, is_even) == 5

    assert [number_of(entry) for entry in read_entries(path)] == [5, 7, 9]
    assert b"8:xxxxxxxxxx" not in path.read_bytes()
    assert not path.with_name("000001.db-wal").exists()
    file = recover(path)
    assert (file.rows, drain(file)) == (3, [5, 7, 9])
    file.put(pack_entries(11))
    assert drain(file) == [11]
    file.close()


def test_a_file_without_other_entries_is_deleted(path: Path) -> None:
    """The next process makes a new one."""
    assert erase_entries(path, lambda _: True) == 10

    assert list(path.parent.iterdir()) == []


def test_an_interrupted_run_changes_nothing(path: Path) -> None:
    """All changes are one transaction."""

    def fail(entry: SpooledEntry) -> bool:
        if number_of(entry) == 7:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        erase_entries(path, fail)

    with closing(recover(path)) as file:
        assert drain(file) == list(range(4, 11))


def test_a_damaged_file_is_refused(path: Path) -> None:
    """The damaged part may have entries of the person."""
    with sqlite3.connect(path) as database:
        database.execute("UPDATE entries SET checksum = 1 WHERE number = 5")
    database.close()

    with pytest.raises(Damaged):
        erase_entries(path, is_even)


def test_the_entries_of_a_running_process_can_be_read(tmp_path: Path) -> None:
    """A copy of the file and its log has all entries that are on the disk; the process does not notice."""
    file = SpoolFile.create(tmp_path / "000001.db")
    file.put(pack_entries(1, 2))
    with pytest.raises(SpoolFault):
        list(read_entries(file.path))

    assert [number_of(entry) for entry in read_running(file.path)] == [1, 2]

    file.put(pack_entries(3))
    assert drain(file) == [1, 2, 3]
    file.close()
