import gzip
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hiredis
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import CommandError
from stream.entry import EntryId
from stream.keys import Shard
from worker.retention.archive_reader import INDEX, ArchiveDamaged, read
from worker.retention.archive_writer import Archive, ArchiveFailed
from worker.retention.pages import RawEntry

SHARD = Shard("archived")
STREAM = SHARD.stream


def raw(*ids: str, payload: bytes = b"x", received_ms: int | None = None) -> list[RawEntry]:
    """Return entries as the server gives them."""
    received = [] if received_ms is None else [b"received_ms", b"%d" % received_ms]
    return [(entry_id.encode(), [b"payload", payload, *received]) for entry_id in ids]


def write(folder: Path, entries: Sequence[RawEntry], shard: Shard = SHARD, page: int = 100) -> None:
    """Archive the entries in one file, a given number at a time."""
    archive = Archive(folder)
    archive.prepare()
    with archive.draft(shard) as draft:
        for start in range(0, len(entries), page):
            draft.add(entries[start : start + page])
        draft.finish()


def ids(folder: Path, **limits: Any) -> list[str]:
    return [entry.id.redis for entry in read(folder, STREAM, **limits)]


def at(text: str) -> EntryId:
    return EntryId.from_redis(0, text)


raw_entries = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=2000)), min_size=1, max_size=6).map(
    lambda pairs: [part for pair in pairs for part in pair]
)


@given(flats=st.lists(raw_entries, min_size=1, max_size=30))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_entry_comes_back(tmp_path_factory: pytest.TempPathFactory, flats: list[list[bytes]]) -> None:
    """Any bytes, empty texts and repeated names come back in their order."""
    folder = tmp_path_factory.mktemp("archive")
    entries = [(b"%d-%d" % (number // 3, number), flat) for number, flat in enumerate(flats, 1)]
    write(folder, entries, page=2)
    assert [(entry.id.redis.encode(), list(entry.flat)) for entry in read(folder, STREAM)] == entries
    assert next(read(folder, STREAM)).fields == dict(zip(flats[0][::2], flats[0][1::2], strict=True))


def test_a_file_is_input_for_redis_cli(tmp_path: Path) -> None:
    """The file, decompressed by gzip, consists of the commands that append the entries again."""
    write(tmp_path, raw("5-0", "6-1"))
    (file,) = tmp_path.glob("*.gz")
    unpacked = subprocess.run(["gzip", "-dc", str(file)], check=True, stdout=subprocess.PIPE).stdout  # noqa: S607
    reader = hiredis.Reader()
    reader.feed(unpacked)
    assert reader.gets() == [b"XADD", STREAM.encode(), b"5-0", b"payload", b"x"]


def test_other_users_cannot_read_it(tmp_path: Path) -> None:
    """The folder has mode 0700 and its files 0600; the name of a file has its shard and its first and last entry."""
    write(tmp_path / "new", raw("5-0", "6-1"), Shard("archived", 3))
    modes = {path.name: oct(path.stat().st_mode)[-3:] for path in (tmp_path / "new").iterdir()}
    assert set(modes.values()) == {"600"}
    assert oct((tmp_path / "new").stat().st_mode)[-3:] == "700"
    (name,) = set(modes) - {INDEX}
    assert name.startswith("3_5-0_6-1_")


def test_the_index_describes_each_file(tmp_path: Path) -> None:
    """A line has the stream, the first and last entry, the number, the size, and the times of receipt."""
    payload = b"x" * 100
    write(tmp_path, [*raw("5-0", "6-1", payload=payload, received_ms=40), *raw("7-0", received_ms=20), *raw("8-0")])
    line = orjson.loads((tmp_path / INDEX).read_bytes())
    assert line.pop("file") in {path.name for path in tmp_path.glob("*.gz")}
    assert line.pop("size") > 200
    assert line == {
        "stream": STREAM,
        "shard": 0,
        "first": "5-0",
        "last": "8-0",
        "entries": 4,
        "received_ms": [20, 40],
    }


def test_files_are_read_in_the_order_of_their_entries(tmp_path: Path) -> None:
    """The order of writing does not count; files of another stream are skipped; a folder without an index is empty."""
    write(tmp_path, raw("10-0", "11-0"))
    write(tmp_path, raw("2-0", "9-0"))
    write(tmp_path, raw("1-0"), Shard("other"))
    write(tmp_path, raw("3-0"), Shard("archived", 1))
    assert ids(tmp_path) == ["2-0", "9-0", "10-0", "11-0"]
    (tmp_path / "new").mkdir()
    assert ids(tmp_path / "new") == []


def test_a_missing_folder_is_no_empty_archive(tmp_path: Path) -> None:
    """Its volume may not be mounted, or its path is wrong: the error names the folder and the setting."""
    with pytest.raises(
        ArchiveDamaged, match=r"the folder .*/nowhere does not exist here: mount it, or correct ACKSTREAM_"
    ):
        ids(tmp_path / "nowhere")


def test_a_copy_of_a_growing_archive_is_whole_if_its_index_came_first(tmp_path: Path) -> None:
    """As docs/backup.md does it. With the index last, the copy could name a file that it does not have."""
    live, copy = tmp_path / "live", tmp_path / "copy"
    write(live, raw("1-0"))
    copy.mkdir()
    shutil.copy(live / INDEX, copy)
    write(live, raw("2-0"))
    for path in live.glob("*.gz"):
        shutil.copy(path, copy)

    assert (ids(live), ids(copy)) == (["1-0", "2-0"], ["1-0"])
    (copy / next(path.name for path in live.glob("*.gz") if "2-0" in path.name)).unlink()
    shutil.copy(live / INDEX, copy)
    with pytest.raises(ArchiveDamaged, match=r"_2-0_.* cannot be read"):
        ids(copy)


def test_an_entry_that_was_archived_twice_is_read_once(tmp_path: Path) -> None:
    """Files may overlap in any way; only an id of two different entries gives both."""
    write(tmp_path, raw("1-0", "2-0", "3-0"))
    write(tmp_path, raw("1-0", "2-0", "3-0", "4-0"))
    write(tmp_path, raw("4-0", "5-0", "9-0"))
    write(tmp_path, raw("9-0", payload=b"of a stream made again"))
    write(tmp_path, raw("6-0"))
    write(tmp_path, raw("9-0"))
    assert ids(tmp_path) == ["1-0", "2-0", "3-0", "4-0", "5-0", "6-0", "9-0", "9-0"]


def test_a_span_is_read(tmp_path: Path) -> None:
    """Both ends are included; files outside, or without an entry received in the span, are not opened."""
    for first in (1, 4, 7):
        write(tmp_path, raw(*(f"{ms}-5" for ms in range(first, first + 3)), received_ms=first * 100))
    write(tmp_path, raw("10-0"))
    assert ids(tmp_path, since=at("3-5"), until=at("7-5")) == ["3-5", "4-5", "5-5", "6-5", "7-5"]
    assert ids(tmp_path, since=at("3-6"), until=at("4-4")) == []
    assert ids(tmp_path, received_ms=(300, 500)) == ["4-5", "5-5", "6-5"]
    (damaged,) = tmp_path.glob("0_1-5*")
    damaged.unlink()
    assert ids(tmp_path, since=at("4-0")) == ["4-5", "5-5", "6-5", "7-5", "8-5", "9-5", "10-0"]
    assert ids(tmp_path, received_ms=(700, 700)) == ["7-5", "8-5", "9-5"]


@pytest.fixture
def cut_index(tmp_path: Path) -> None:
    """Cut off the last line of the index, as a crash does."""
    write(tmp_path, raw("1-0"))
    write(tmp_path, raw("2-0"))
    text = (tmp_path / INDEX).read_bytes()
    (tmp_path / INDEX).write_bytes(text[:-20])


@pytest.mark.usefixtures("cut_index")
def test_a_file_that_is_not_in_the_index_does_not_count(tmp_path: Path) -> None:
    """Incomplete lines and drafts are ignored, and the next file gets a complete line."""
    (tmp_path / "0-abc.part").write_bytes(b"half")
    assert ids(tmp_path) == ["1-0"]
    write(tmp_path, raw("2-0", "3-0"))
    assert ids(tmp_path) == ["1-0", "2-0", "3-0"]


@pytest.mark.parametrize("how", ["gone", "cut", "changed", "emptied"])
def test_a_damaged_file_is_named(tmp_path: Path, how: str) -> None:
    """A part of a file is never taken for the whole file."""
    write(tmp_path, raw(*(f"{ms}-0" for ms in range(1, 100)), payload=os.urandom(1000)))
    (file,) = tmp_path.glob("*.gz")
    contents = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        changed = contents[:-30] + b"?" + contents[-29:]
        file.write_bytes({"cut": contents[:-100], "changed": changed, "emptied": gzip.compress(b"")}[how])
    with pytest.raises(ArchiveDamaged, match=file.name):
        ids(tmp_path)


def test_a_draft_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    """Neither a file nor a line remains; drafts of a crash are removed after an hour."""
    old = tmp_path / "0-old.part"
    old.write_bytes(b"half")
    (tmp_path / "0-new.part").write_bytes(b"half")
    os.utime(old, (1, 1))
    with Archive(tmp_path).draft(SHARD) as draft:
        draft.add(raw("1-0"))
    assert {path.name for path in tmp_path.iterdir()} == {"0-new.part"}


def test_a_draft_that_was_removed_fails(tmp_path: Path) -> None:
    """A process whose draft was removed while it was stopped does not report it as archived."""
    with Archive(tmp_path).draft(SHARD) as draft:
        draft.add(raw("1-0"))
        (path,) = tmp_path.glob("*.part")
        path.unlink()
        with pytest.raises(ArchiveFailed, match="No such file"):
            draft.finish()
    assert ids(tmp_path) == []


def test_a_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    """The error names the folder."""
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match=r"the folder of the archive .*/file cannot be"):
        Archive(tmp_path / "file").prepare()


def test_after_a_small_file_the_next_one_waits(tmp_path: Path) -> None:
    """A group that settles a few old entries from time to time causes few small files. Other shards do not wait."""
    archive = Archive(tmp_path, file_bytes=1000)
    for size, rests in ((2000, False), (100, True)):
        with archive.draft(SHARD) as draft:
            draft.add(raw("1-0", payload=b"x" * size))
            archive.finish(draft)
        assert archive.is_resting(SHARD) == rests
    assert not archive.is_resting(Shard(SHARD.name, SHARD.number + 1))


def test_a_file_without_a_line_in_the_index_is_removed(tmp_path: Path) -> None:
    """Repeated attempts would otherwise fill the disk."""
    (tmp_path / INDEX).mkdir()
    with Archive(tmp_path).draft(SHARD) as draft:
        draft.add(raw("1-0"))
        with pytest.raises(ArchiveFailed, match="Is a directory"):
            draft.finish()
    assert [path.name for path in tmp_path.iterdir()] == [INDEX]
