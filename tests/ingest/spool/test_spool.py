"""The set of the spool's files: limits, faults, and files of other processes."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.spool.errors import Failing, NotSpooled
from ingest.spool.file import SpoolFile
from ingest.spool.file_set import SpoolFiles
from ingest.spool.folder import SpoolFolder
from ingest.spool.record import entries_bytes
from runtime.errors import CommandError
from tests.support.faults.redis_outages import read_metric
from tests.support.samples.events import RECEIVED_MS
from tests.support.samples.spool_folders import OWNER, drain_files, open_files, run_files
from tests.support.samples.spooled import numbers, pack_entries

ROOT = Path(__file__).parents[3]
LIMIT_BYTES = 40_000


def left(data: Path) -> list[str]:
    """The names of the files that hold entries."""
    return sorted(path.name for path in data.glob("spool/*/*.*") if not path.name.endswith("-wal"))


def test_what_was_put_is_drained_in_order_by_the_next_process(tmp_path: Path) -> None:
    """The order also holds over several starts, each with its own file; drained files are deleted."""
    for start in range(3):
        with run_files(tmp_path) as files:
            assert files.held.entries == 2 * start
            files.put(pack_entries(2 * start))
            files.put(pack_entries(2 * start + 1))
    assert len(left(tmp_path)) == 3
    with run_files(tmp_path) as files:
        assert (files.held.entries, files.held.oldest_ms) == (6, RECEIVED_MS)
        assert drain_files(files, 3) == list(range(6))
        assert (files.held.entries, files.held.bytes, files.held.oldest_ms) == (0, 0, None)
    assert left(tmp_path) == []


def test_only_its_owner_may_look_in(tmp_path: Path) -> None:
    """Folders 0700, files 0600."""
    with run_files(tmp_path / "data") as files:
        files.put(pack_entries(1))
        modes = {path.name: oct(path.stat().st_mode)[-3:] for path in (tmp_path / "data").rglob("*")}
    assert {modes.pop(name) for name in ("spool", "0")} == {"700"}
    assert set(modes.values()) == {"600"}


def test_the_limit_is_kept(tmp_path: Path) -> None:
    """A put beyond the limit is refused as a whole; after some draining there is room again."""
    with run_files(tmp_path, 10_000) as files:
        files.put(pack_entries(1, size=4000))
        files.put(pack_entries(2, size=4000))
        with pytest.raises(NotSpooled, match="ACKSTREAM_SPOOL_BYTES"):
            files.put(pack_entries(3, 4, size=1000))
        part = files.read(1)
        assert part is not None
        files.confirm(part)
        files.put(pack_entries(3, 4, size=1000))
        assert drain_files(files) == [2, 3, 4]


def test_two_processes_have_folders_of_their_own(tmp_path: Path) -> None:
    """A process does not drain the folder of another one that lives; it does when that one is gone."""
    with run_files(tmp_path) as files:
        with run_files(tmp_path) as second:
            second.put(pack_entries(1, 2))
            files.take_over()
            assert files.held.entries == 0
        files.put(pack_entries(3))
        recovered = read_metric("spool_found_entries_total")
        files.take_over()
        assert read_metric("spool_found_entries_total") - recovered == 2
        assert drain_files(files) == [1, 2, 3]
        with run_files(tmp_path) as next_one:
            assert next_one.held.entries == 0
    assert left(tmp_path) == []


def test_a_folder_that_was_taken_over_is_given_back(tmp_path: Path) -> None:
    """Held while it is drained, so that no third one does the same; then free for a new process."""
    with run_files(tmp_path) as files:
        with run_files(tmp_path) as second:
            second.put(pack_entries(1))
        files.take_over()
        assert list(SpoolFolder.claim(tmp_path, OWNER).path.parts)[-1] == "2"
        assert drain_files(files) == [1]
        files.take_over()
        assert list(SpoolFolder.claim(tmp_path, OWNER).path.parts)[-1] == "1"


def test_a_damaged_file_is_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    """The damaged file keeps its number and is never opened again; other files are drained."""
    for number in (1, 2):
        with run_files(tmp_path) as files:
            files.put(pack_entries(number))
    (tmp_path / "spool" / "0" / "000001.db").write_bytes(os.urandom(5000))
    with run_files(tmp_path) as files:
        assert drain_files(files) == [2]
        files.put(pack_entries(3))
        assert left(tmp_path) == ["000001.damaged", "000003.db"]
    with run_files(tmp_path) as files:
        assert drain_files(files) == [3]
    assert left(tmp_path) == ["000001.damaged"]


def test_what_is_damaged_in_use_is_counted(tmp_path: Path) -> None:
    """One page is garbage: all found entries are drained or set aside."""
    with run_files(tmp_path) as files:
        for n in range(0, 1000, 50):
            files.put(pack_entries(*range(n, n + 50), size=500))
    names = ("found_entries", "drained_entries", "set_aside_entries")
    before = {name: read_metric(f"spool_{name}_total") for name in names}
    with (tmp_path / "spool" / "0" / "000001.db").open("r+b") as file:
        file.seek(50 * 4096)
        file.write(os.urandom(4096))
    with run_files(tmp_path) as files:
        numbers_read = drain_files(files)
        assert 980 < len(numbers_read) < 1000
        assert files.held.entries == 0
    grown = {name: read_metric(f"spool_{name}_total") - before[name] for name in names}
    assert grown["drained_entries"] == len(numbers_read)
    assert grown["found_entries"] == grown["drained_entries"] + grown["set_aside_entries"]
    assert left(tmp_path) == ["000001.damaged"]


def break_file(monkeypatch: pytest.MonkeyPatch, victim: Path) -> None:
    """Let every later put into this file fail."""
    put = SpoolFile.put

    def fail(file: SpoolFile, entries: object) -> None:
        if file.path == victim:
            raise Failing("SQLITE_IOERR_FSYNC")
        put(file, entries)  # type: ignore[arg-type]

    monkeypatch.setattr(SpoolFile, "put", fail)


def test_a_file_that_failed_takes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New entries go to a new file; earlier ones are drained, and then the sealed file is deleted."""
    with run_files(tmp_path) as files:
        files.put(pack_entries(1, 2))
        break_file(monkeypatch, tmp_path / "spool" / "0" / "000001.db")
        files.put(pack_entries(3))
        assert left(tmp_path) == ["000001.db", "000002.db"]
        assert files.held.entries == 3
        assert drain_files(files, 2) == [1, 2, 3]
        assert left(tmp_path) == ["000002.db"]


@pytest.mark.parametrize("names", ["*.db*", "*.db", "*-wal"])
def test_entries_go_to_a_new_file_once_theirs_was_removed(tmp_path: Path, names: str) -> None:
    """A file without its name would end with the process; its earlier entries are drained from it while it runs."""
    files = open_files(tmp_path)
    files.put(pack_entries(1))
    for path in (tmp_path / "spool" / "0").glob(names):
        path.unlink()
    files.put(pack_entries(2))
    with run_files(copied(tmp_path)) as later:
        assert 2 in drain_files(later)
    assert drain_files(files) == [1, 2]
    files.close()


@pytest.mark.parametrize("names", ["*.db*", "*.db", "*-wal"])
@pytest.mark.parametrize("is_reading", [True, False])
def test_the_next_check_copies_the_entries_of_a_removed_file(tmp_path: Path, names: str, is_reading: bool) -> None:
    """A process that is killed later leaves them, and a slice that is being drained comes again."""
    files = open_files(tmp_path)
    files.put(pack_entries(1, 2))
    part = files.read(1) if is_reading else None
    for path in (tmp_path / "spool" / "0").glob(names):
        path.unlink()
    assert files.check() is None
    with run_files(copied(tmp_path)) as later:
        assert drain_files(later)[-2:] == [1, 2]
    if part is not None:
        files.confirm(part)
    files.put(pack_entries(3))
    assert files.held.entries == 3
    assert drain_files(files) == [1, 2, 3]
    files.close()


@pytest.mark.parametrize("act", ["check", "put", "close"])
def test_a_removed_folder_is_made_again(tmp_path: Path, act: str) -> None:
    """Each next step of the process keeps its entries on the disk, in a folder that it has locked."""
    files = open_files(tmp_path)
    files.put(pack_entries(1))
    shutil.rmtree(tmp_path / "spool")
    if act == "close":
        files.close()
    elif act == "check":
        assert files.check() is None
    else:
        files.put(pack_entries(2))
        assert files.check() is None
    with run_files(copied(tmp_path)) as later:
        assert sorted(drain_files(later)) == ([1, 2] if act == "put" else [1])
    if act != "close":
        with run_files(tmp_path) as other:
            assert drain_files(other) == []
        files.put(pack_entries(3))
        assert 3 in drain_files(files)
        files.close()


def test_a_file_that_replaced_the_own_one_is_not_deleted(tmp_path: Path) -> None:
    """A person may put a copy in its place; the next start drains it."""
    files = open_files(tmp_path)
    files.put(pack_entries(1))
    folder = tmp_path / "spool" / "0"
    (folder / "copy").write_bytes((folder / "000001.db").read_bytes())
    (folder / "copy").replace(folder / "000001.db")
    assert files.check() is None
    assert drain_files(files) == [1]
    assert (folder / "000001.db").exists()
    files.close()


def copied(data: Path) -> Path:
    """Return a copy of the data folder: what a killed process leaves."""
    return Path(shutil.copytree(data, tempfile.mkdtemp(dir=data.parent), dirs_exist_ok=True))


def test_no_folder_is_a_refusal(tmp_path: Path) -> None:
    """One sentence says which folder, why, and which setting."""
    (tmp_path / "file").touch()
    with pytest.raises(
        CommandError, match=r"the spool folder \S+/file/spool cannot be used \(.+\): set ACKSTREAM_DATA"
    ):
        SpoolFolder.claim(tmp_path / "file", OWNER)


operations = st.lists(
    st.tuples(st.just("put"), st.integers(1, 4))
    | st.tuples(st.just("drain"), st.integers(1, 6))
    | st.tuples(st.sampled_from(["kill", "stop", "take over", "fail"]), st.just(1)),
    max_size=25,
)


def fail(files: SpoolFiles) -> None:
    """As when an fsync of the file that is written fails."""
    if files._writer is not None:  # noqa: SLF001 - no real disk fails on demand
        files._seal(files._writer, Failing("SQLITE_IOERR_FSYNC"))  # noqa: SLF001 - likewise


def crash(data: Path) -> Path:
    """The data folder as a killed process leaves it."""
    return Path(shutil.copytree(data, Path(tempfile.mkdtemp(dir=data.parent.parent)) / "data"))


@given(operations)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_kept_is_lost_and_the_limit_holds(tmp_path: Path, actions: list[tuple[str, int]]) -> None:
    """Puts, drains, kills, stops, failing files in any order: all that was kept is drained, in each file in order.

    Only what was drained from a file that had failed, and so could not be deleted, may come again after a kill.
    """
    data = Path(tempfile.mkdtemp(dir=tmp_path)) / "data"
    files = open_files(data, LIMIT_BYTES)
    stored, numbers_read, number, failed = set[int](), list[int](), 0, False
    for name, count in actions:
        if name == "put":
            new = pack_entries(*range(number, number + count), size=1500)
            try:
                files.put(new)
            except NotSpooled as exc:
                assert (exc.why, files.held.bytes + entries_bytes(new) > LIMIT_BYTES) == ("full", True)  # noqa: PT017 - either
            else:
                stored.update(range(number, number + count))
            number += count
        elif name == "drain" and (part := files.read(count)) is not None:
            numbers_read += numbers(part.slice)
            files.confirm(part)
        elif name == "take over":
            files.take_over()
        elif name == "fail":
            fail(files)
            failed = True
        elif name in ("kill", "stop"):
            data, old = crash(data) if name == "kill" else data, files
            old.close()
            files = open_files(data, LIMIT_BYTES)
        assert files.held.bytes <= LIMIT_BYTES
        assert failed or files.held.entries == len(stored) - len(numbers_read)
    numbers_read += drain_files(files)
    files.close()
    assert set(numbers_read) == stored
    assert failed or numbers_read == sorted(stored)
    assert left(data) == []
