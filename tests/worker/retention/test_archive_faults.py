"""The archive on a full disk, with damaged files, and with entries of another version."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from stream.entry import EntryId
from stream.keys import Shard
from tests.support.commands import run_command
from tests.support.samples.events import RECEIVED_MS, body, entry
from tests.support.streams.retention import OLD, group, read_ids, register, trim_once
from tests.support.workers.recording import GROUP
from worker.replay.copier import plan_steps
from worker.replay.entry_filter import ALL, EntryFilter
from worker.replay.entry_reader import Span, Stored, read_archive
from worker.replay.job import Place, Replay
from worker.retention.archive_reader import INDEX, ArchiveDamaged, read
from worker.retention.archive_writer import Archive, ArchiveFailed
from worker.retention.pages import PAGE_ENTRIES, next_page_size

HOUR_MS = 3_600_000
STREAM = "archived"


def write(folder: Path, entries: Any, shard: Shard) -> None:
    archive = Archive(folder)
    archive.prepare()
    with archive.draft(shard) as draft:
        draft.add(entries)
        draft.finish()


@pytest.fixture
def damaged_archive(tmp_path: Path) -> Path:
    """Return an archive of three hours, one file each; the first file is missing."""
    for hour in range(3):
        received = b"%d" % (RECEIVED_MS + hour * HOUR_MS)
        fields: Any = entry(body(message_uuid=f"m-{hour}"), int(received)).to_fields()
        write(tmp_path, [(b"%d-0" % (hour + 1), [part for pair in fields.items() for part in pair])], Shard(STREAM))
    (oldest,) = tmp_path.glob("0_1-0*")
    oldest.unlink()
    return tmp_path


async def test_a_damaged_old_file_does_not_fail_a_replay_of_a_later_time(damaged_archive: Path) -> None:
    """Only files with entries that were received in the time of the filter are opened."""
    later = EntryFilter(since_ms=RECEIVED_MS + HOUR_MS, until_ms=RECEIVED_MS + 2 * HOUR_MS)
    pages = [
        page async for page in read_archive(damaged_archive, STREAM + ":{0}", Span.full(0), None, later.received_span)
    ]
    assert [stored.id.redis for page in pages for stored in page] == ["2-0"]
    with pytest.raises(ArchiveDamaged, match="0_1-0"):
        [
            page
            async for page in read_archive(
                damaged_archive, STREAM + ":{0}", Span.full(0), None, EntryFilter().received_span
            )
        ]


def test_plan_reads_only_files_of_the_given_time(
    damaged_archive: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --since it succeeds; without it, the error names the damaged file."""
    monkeypatch.setenv("ACKSTREAM_ARCHIVE", str(damaged_archive))
    monkeypatch.setenv("ACKSTREAM_STREAM", STREAM)
    plan = ("replay", "plan", "--archive", "--redis-url", valkey_url)
    since = run_command(*plan, "--since", "2025-11-24T17:00Z", "--json").json
    assert (since["entries"], since["first_entry"]) == (2, "0/2-0")
    assert "the archive cannot be used" in run_command(*plan).error


def test_the_received_span_of_a_filter_includes_both_ends() -> None:
    """``--until`` is exclusive, so the span ends 1 ms before."""
    assert EntryFilter(messages=("m",)).received_span is None
    assert EntryFilter(since_ms=5, until_ms=9).received_span == (5, 8)
    assert EntryFilter(until_ms=9).received_span == (0, 8)


@pytest.mark.parametrize("size", [0, 1, 10**9])
def test_pages_of_entries_of_any_size_have_a_next_page(size: int) -> None:
    """Entries without any bytes are valid."""
    assert 1 <= next_page_size(100, size) <= PAGE_ENTRIES


@pytest.fixture
def full_index(tmp_path: Path) -> Path:
    """Return a folder whose index is on a full device."""
    (tmp_path / INDEX).symlink_to("/dev/full")
    return tmp_path


def test_a_file_whose_line_does_not_fit_into_the_index_is_removed(full_index: Path) -> None:
    """Repeated attempts would otherwise fill the disk with files without a line."""
    for _ in range(3):
        with pytest.raises(ArchiveFailed, match="No space left on device"):
            write(full_index, [(b"1-0", [b"payload", b"x"])], Shard(STREAM))
    assert [path.name for path in full_index.iterdir()] == [INDEX]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Limit the size of every file of this process: a write that exceeds it is cut off."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("short", "stays"), [(40, False), (1, True)])
def test_a_line_that_is_cut_off_counts_only_if_it_is_complete(tmp_path: Path, short: int, stays: bool) -> None:
    """A short write leaves no file; if only the line end is missing, the line and its file count."""
    write(tmp_path, [(b"1-0", [b"payload", b"x"])], Shard(STREAM))
    folder = tmp_path / "limited"
    with file_size_limit((tmp_path / INDEX).stat().st_size - short):
        if stays:
            write(folder, [(b"1-0", [b"payload", b"x"])], Shard(STREAM))
        else:
            with pytest.raises(ArchiveFailed, match="No space left on device"):
                write(folder, [(b"1-0", [b"payload", b"x"])], Shard(STREAM))
    assert len(list(folder.glob("*.gz"))) == int(stays)
    write(folder, [(b"2-0", [b"payload", b"x"])], Shard(STREAM))
    assert [entry.id.redis for entry in read(folder, STREAM + ":{0}")] == (["1-0", "2-0"] if stays else ["2-0"])


async def test_unknown_fields_survive_archive_and_replay(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path
) -> None:
    """Fields that a later version adds are archived and copied unchanged."""
    fields: Any = entry(body(message_uuid="m"), RECEIVED_MS).to_fields() | {b"future": b"\xff\x00"}
    await server.xadd(shard.stream, fields, id="1-0")
    await group(server, shard, "done", read=1)
    await register(server, shard, "done", GROUP)
    await server.set(shard.checkpoint(GROUP), "1-0")
    await trim_once(valkey_url, shard, OLD, Archive(tmp_path))
    assert await read_ids(server, shard) == []
    (archived,) = read(tmp_path, shard.stream)
    assert archived.fields == fields


def test_a_replayed_dead_letter_starts_at_the_first_attempt_with_its_unknown_fields() -> None:
    """The copy has no fields about attempts, but it has fields that this version does not know."""
    fields: Any = entry(body(message_uuid="m"), RECEIVED_MS, attempt=3, error="attempts: KeyError").to_fields()
    stored = Stored(EntryId(0, 1, 0), fields | {b"message": b"private", b"errors": b"[]", b"future": b"\xff\x00"})
    replay = Replay(
        id="r", group="g", place=Place.DEAD, selection=ALL, rate=1, begin="0-0", end="1-0", total=1, started_ms=0
    )
    (step,) = plan_steps(replay, [stored])
    (copy,) = step.copies
    assert copy.fields[b"future"] == b"\xff\x00"
    assert not {b"attempt", b"message", b"errors"} & copy.fields.keys()
