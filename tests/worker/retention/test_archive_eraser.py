"""Entries of the archive are erased without a moment at which the archive is damaged."""

import gzip
from io import RawIOBase
from pathlib import Path

import pytest

from stream.keys import Shard
from worker.retention import archive_eraser
from worker.retention.archive_eraser import (
    ArchiveLocked,
    delete_old_files,
    erase_entries,
    list_drafts,
    list_files,
    lock_archive,
)
from worker.retention.archive_reader import ArchivedEntry, IndexLine, read
from worker.retention.archive_writer import Archive, append_line

SHARD = Shard("archived")


def write(folder: Path, *ids: int, shard: Shard = SHARD) -> None:
    """Archive entries in one file; each has its id as its payload."""
    archive = Archive(folder)
    archive.prepare()
    with archive.draft(shard) as draft:
        draft.add([(b"%d-0" % number, [b"payload", b"%d" % number]) for number in ids])
        draft.finish()


def ids_in(folder: Path, shard: Shard = SHARD) -> list[int]:
    return [entry.id.ms for entry in read(folder, shard.stream)]


def is_even(entry: ArchivedEntry) -> bool:
    return entry.id.ms % 2 == 0


def erase(folder: Path) -> int:
    """Erase the even entries of all files."""
    return sum(erase_entries(file, is_even) for file in list_files(folder, SHARD.stream))


def test_entries_are_erased_and_the_others_keep_their_file_and_order(tmp_path: Path) -> None:
    """Names, modes and the other entries stay, a file without other entries goes, another stream is not touched."""
    write(tmp_path, 1, 2, 3)
    write(tmp_path, 4, 6)
    write(tmp_path, 5, 7)
    write(tmp_path, 2, shard=Shard("other"))
    names = {path.name for path in tmp_path.glob("*.gz")}

    assert erase(tmp_path) == 3

    assert ids_in(tmp_path) == [1, 3, 5, 7]
    assert {name for name in names if "_4-0_" not in name} == {path.name for path in tmp_path.glob("*.gz")}
    assert {oct(path.stat().st_mode)[-3:] for path in tmp_path.iterdir()} == {"600"}
    assert ids_in(tmp_path, Shard("other")) == [2]
    assert erase(tmp_path) == 0
    write(tmp_path, 8, 9)
    assert ids_in(tmp_path) == [1, 3, 5, 7, 8, 9]


@pytest.mark.parametrize("ids", [(1, 2, 3), (2, 4)])
def test_a_crash_before_the_file_is_replaced_damages_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: tuple[int, ...]
) -> None:
    """Between the line of the index and the new file the old file is valid, and the next run erases the rest."""
    write(tmp_path, *ids)

    def crash(index: RawIOBase, line: IndexLine) -> None:
        append_line(index, line)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(archive_eraser, "append_line", crash)
        with pytest.raises(KeyboardInterrupt):
            erase(tmp_path)
    assert set(ids_in(tmp_path)) <= set(ids)
    erase(tmp_path)

    assert ids_in(tmp_path) == [number for number in ids if number % 2]
    assert len(list(tmp_path.glob("*.gz"))) == (1 in ids)


def test_a_file_that_a_crash_left_without_a_line_is_erased_too(tmp_path: Path) -> None:
    """No replay reads it, but it can be read."""
    write(tmp_path, 1, 2, 3)
    (path,) = tmp_path.glob("*.gz")
    (tmp_path / "index.jsonl").write_bytes(b"")

    assert erase(tmp_path) == 1

    assert b"payload\r\n$1\r\n2" not in gzip.decompress(path.read_bytes())


def test_old_files_are_deleted(tmp_path: Path) -> None:
    """A file goes when all of its entries are older; a rest that a crash left goes the next time."""
    write(tmp_path, 1, 2)
    write(tmp_path, 3, 40)
    write(tmp_path, 41)
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.gz")}

    assert delete_old_files(tmp_path, SHARD.stream, 40) == 2

    assert ids_in(tmp_path) == [3, 40, 41]
    (gone,) = kept.keys() - {path.name for path in tmp_path.glob("*.gz")}
    (tmp_path / gone).write_bytes(kept[gone])
    assert delete_old_files(tmp_path, SHARD.stream, 40) == 0
    assert not (tmp_path / gone).exists()


def test_one_process_at_a_time_erases(tmp_path: Path) -> None:
    """Two processes that write a file again would each bring back what the other one has erased."""
    write(tmp_path, 1)

    with lock_archive(tmp_path), pytest.raises(ArchiveLocked):
        delete_old_files(tmp_path, SHARD.stream, 40)


def test_files_that_a_trimmer_is_writing_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have entries of the person; those that a crash has left are removed."""
    archive = Archive(tmp_path)
    archive.prepare()
    with archive.draft(SHARD) as draft:
        draft.add([(b"1-0", [b"payload", b"x"])])
        assert len(list_drafts(tmp_path, 0)) == 1
        monkeypatch.setattr(archive_eraser, "ABANDONED_SECONDS", -10.0)
        assert list_drafts(tmp_path, 0) == []
        assert list(tmp_path.glob("*.part")) == []
