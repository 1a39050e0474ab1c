import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from runtime.tasks import cancel_and_wait
from stream.keys import Shard
from stream.redis.client import client
from tests.support.processes import becomes
from tests.support.streams.replayed_stream import GROUP, ReplayedStream, run_beside
from tests.support.streams.retention import OLD, trim_once
from tests.support.waiting import until
from worker.replay.copier import plan_steps, split_steps
from worker.replay.entry_filter import EntryFilter
from worker.replay.entry_reader import Span, read_archive
from worker.replay.job import Place, State
from worker.replay.repository import KEPT_ENDED, MOST_UNREAD
from worker.retention.archive_writer import Archive
from worker.retention.pages import raw_ranges


@pytest.fixture
def site(valkey_url: str, server: Redis, shard: Shard) -> ReplayedStream:
    return ReplayedStream(valkey_url, server, shard)


async def test_one_of_many_workers_copies(site: ReplayedStream) -> None:
    """Three workers make each copy once; log lines have the start, the end and the scope."""
    await site.append(range(1, 801))
    await site.start(700, rate=5000)
    with capture_logs() as logs:
        await run_beside([site.make_scheduler() for _ in range(3)], site.has(State.DONE))
    assert await site.read_copies() == list(range(1, 701))
    (begun,) = [line for line in logs if line["event"] == "replay.copying"]
    assert (begun["replay"], begun["group"], begun["scope"], begun["total"]) == ("r", GROUP, "all", 700)
    assert [line["done"] for line in logs if line["event"] == "replay.done"] == [700]


async def test_after_any_cancellation_another_worker_continues(site: ReplayedStream) -> None:
    """Workers that are cancelled again and again make each copy once."""
    await site.append(range(1, 1501))
    await site.start(1500, rate=500)
    ended = 0
    for number in range(150, 1500, 150):
        running = asyncio.create_task(run_beside([site.make_scheduler()], asyncio.sleep(3600)))
        await site.has_copied(number)
        await cancel_and_wait([running])
        ended += (await site.progress()).state is State.RUNNING
    assert ended  # on a busy machine it may be done before the second time
    await run_beside([site.make_scheduler()], site.has(State.DONE))
    assert await site.read_copies() == list(range(1, 1501))


async def test_a_group_has_a_limit_of_unread_copies(site: ReplayedStream) -> None:
    """At 10,000 unread copies the replay waits; it makes a copy for each one that is settled."""
    await site.append(range(1, MOST_UNREAD + 51))
    await site.start(MOST_UNREAD + 50)

    async def goes_on_with_room() -> None:
        await site.has_copied(MOST_UNREAD - 250)
        key = site.shard.replay(GROUP)
        removed = 0
        while (await site.progress()).state is not State.DONE:
            assert await site.server.xlen(key) <= MOST_UNREAD
            await asyncio.sleep(0.15)
            oldest: Any = await site.server.xrange(key, count=40)
            removed += await site.server.xdel(key, *(entry_id for entry_id, _ in oldest))
        assert await site.server.xlen(key) + removed == MOST_UNREAD + 50

    await run_beside([site.make_scheduler()], goes_on_with_room())


async def test_entries_that_are_not_copied_yet_are_not_trimmed(site: ReplayedStream) -> None:
    """A replay holds the stream from its cursor on, also while it is paused, until it has ended."""
    await site.append(range(1, 1001))
    await site.server.xgroup_create(site.shard.stream, GROUP, "$")
    replay = await site.start(1000, rate=500)
    await run_beside([site.make_scheduler()], site.has_copied(100))
    await site.replays.change_state(replay, State.PAUSED, allowed=[State.RUNNING])
    cursor = (await site.progress()).cursor.ms
    await trim_once(site.url, site.shard, OLD)
    oldest: Any = await site.server.xrange(site.shard.stream, count=1)
    assert oldest[0][0] == b"%d-0" % (cursor + 1)
    await site.replays.change_state(replay, State.RUNNING, allowed=[State.PAUSED])
    await run_beside([site.make_scheduler()], site.has(State.DONE))
    assert await site.read_copies() == list(range(1, 1001))
    await trim_once(site.url, site.shard, OLD)
    assert await site.server.xlen(site.shard.stream) == 0


async def test_a_changed_rate_applies_to_a_running_replay(site: ReplayedStream) -> None:
    """A replay of minutes ends within seconds at the new rate; its number of copies stays right."""
    await site.append(range(1, 1201))
    replay = await site.start(1200, rate=5)

    async def speed_up() -> None:
        await site.has_copied(2)
        assert await site.replays.change_rate(replay, 2000) is State.RUNNING
        await site.has(State.DONE)

    await run_beside([site.make_scheduler()], speed_up())
    progress = await site.progress()
    assert (progress.rate, progress.done, progress.replay.rate) == (2000, 1200, 5)
    assert await site.read_copies() == list(range(1, 1201))
    assert await site.replays.change_rate(replay, 1) is State.DONE
    assert (await site.progress()).rate == 2000


async def test_a_lower_rate_applies_to_a_running_replay(site: ReplayedStream) -> None:
    """After a change from 500 to 10 a second, the replay makes few copies in the next second."""
    await site.append(range(1, 10_001))
    replay = await site.start(10_000, rate=500)

    async def count_copies() -> tuple[int, float]:
        return await site.server.xlen(site.shard.replay(GROUP)), time.monotonic()

    async def slow_down() -> None:
        await site.has_copied(100)
        await site.replays.change_rate(replay, 10)
        changed = len(logs)
        await until(lambda: has_rate(logs, 10, changed))
        (before, _), began = await count_copies(), time.monotonic()
        await becomes(lambda: time.monotonic() - began > 1)
        after, ended = await count_copies()
        assert after - before <= 10 * (ended - began) + 5

    with capture_logs() as logs:
        await run_beside([site.make_scheduler()], slow_down())


async def has_rate(logs: Sequence[Any], rate: float, changed: int) -> bool:
    """Whether the copier adopted the rate. One that takes over after the change, at a lost lease, starts with it."""
    took_over = any(line["event"] == "replay.copying" for line in logs[changed:])
    return took_over or any(line["event"] == "replay.rate" and line["rate"] == rate for line in logs)


async def test_a_replay_keeps_who_started_and_changed_it(site: ReplayedStream) -> None:
    """The person, the time and the reason stay until the worker itself changes the state."""
    await site.append(range(1, 11))
    replay = await site.start(10, person="tomas", why="new column")
    progress = await site.progress()
    assert (progress.started.person, progress.started.why) == ("tomas", "new column")
    await site.replays.change_state(replay, State.PAUSED, allowed=[State.RUNNING], person="ida", why="receiver is down")
    moved = (await site.progress()).moved
    assert (moved.person, moved.why) == ("ida", "receiver is down")
    await site.replays.change_state(replay, State.RUNNING, allowed=[State.PAUSED], person="ida")
    await run_beside([site.make_scheduler()], site.has(State.DONE))
    progress = await site.progress()
    assert progress.moved.ms >= moved.ms > 0
    assert (progress.moved.person, progress.moved.why, progress.started.why) == ("", "", "new column")


async def test_a_replay_of_an_older_version_has_no_person(site: ReplayedStream) -> None:
    """Fields that an older version does not write are empty; those that it does not know stay."""
    await site.append(range(1, 11))
    await site.start(10)
    key = site.shard.replays(GROUP)
    fields = [f"r:{name}" for name in ("by", "why", "rate", "moved", "moved_by", "moved_why")]
    await site.server.hdel(key, *fields)
    progress = await site.progress()
    assert (progress.rate, progress.started.person, progress.moved.person) == (progress.replay.rate, "", "")
    assert progress.moved.ms == progress.started.ms == progress.replay.started_ms


async def archive(site: ReplayedStream, folder: Path, first: int, last: int) -> None:
    """Archive these entries, which are on the stream."""
    async with raw_ranges(client(site.url)) as raw:
        entries: Any = await raw.xrange(site.shard.stream, f"{first}-0", f"{last}-0")
    writer = Archive(folder)
    writer.prepare()
    with writer.draft(site.shard) as draft:
        draft.add(entries)
        draft.finish()


async def test_entries_of_archive_and_stream_are_copied_once(site: ReplayedStream, tmp_path: Path) -> None:
    """An entry in one file, in two, or in the archive and on the stream is copied once, ordered by id."""
    await site.append(range(1, 2001))
    for first, last in ((1, 700), (500, 900), (850, 1200)):  # crashes left files that overlap
        await archive(site, tmp_path, first, last)
    await site.server.xtrim(site.shard.stream, minid="1001-0", approximate=False)
    await site.start(1900, place=Place.ARCHIVE, rate=4000)
    while (await site.progress()).state is not State.DONE:
        await run_beside([site.make_scheduler(tmp_path)], asyncio.sleep(0.1))  # each run ends in the middle of a replay
    assert await site.read_copies() == list(range(1, 1901))


async def test_entries_archived_during_a_replay_are_copied(site: ReplayedStream, tmp_path: Path) -> None:
    """The stream is held from its first entry on, so later archived entries are read from the stream."""
    await site.append(range(1, 301))
    await archive(site, tmp_path, 1, 100)
    await site.server.xtrim(site.shard.stream, minid="101-0", approximate=False)
    await site.start(300, place=Place.ARCHIVE)
    await archive(site, tmp_path, 101, 200)
    await run_beside([site.make_scheduler(tmp_path)], site.has(State.DONE))
    assert await site.read_copies() == list(range(1, 301))


async def test_an_archive_can_be_replayed_without_its_stream(site: ReplayedStream, tmp_path: Path) -> None:
    """After Redis has lost everything, the archive can still be replayed."""
    await site.append(range(1, 301))
    await archive(site, tmp_path, 1, 300)
    await site.server.delete(site.shard.stream)
    await site.start(300, place=Place.ARCHIVE)
    await run_beside([site.make_scheduler(tmp_path)], site.has(State.DONE))
    assert await site.read_copies() == list(range(1, 301))


async def test_a_damaged_archive_fails_the_replay_until_it_is_repaired(site: ReplayedStream, tmp_path: Path) -> None:
    """The error names the file; resumed with the file restored, the replay continues from its cursor."""
    await site.append(range(1, 1001))
    await archive(site, tmp_path, 1, 500)
    await archive(site, tmp_path, 501, 1000)
    await site.server.xtrim(site.shard.stream, maxlen=0, approximate=False)
    (second,) = tmp_path.glob("*_501-0_*")  # noqa: ASYNC240 - a folder of two files
    second.rename(tmp_path / "away")
    replay = await site.start(1000, place=Place.ARCHIVE)
    await run_beside([site.make_scheduler(tmp_path)], site.has(State.FAILED))
    assert second.name in (await site.progress()).error
    (tmp_path / "away").rename(second)
    await site.replays.change_state(replay, State.RUNNING, allowed=[State.FAILED])
    await run_beside([site.make_scheduler(tmp_path)], site.has(State.DONE))
    assert await site.read_copies() == list(range(1, 1001))


async def test_a_worker_without_the_archive_skips_the_replay(site: ReplayedStream, tmp_path: Path) -> None:
    """The worker logs that it has no archive, and copies for the other replays."""
    await site.append(range(1, 101))
    await archive(site, tmp_path, 1, 50)
    await site.start(100, "with", Place.ARCHIVE)
    await site.start(100, "without")
    with capture_logs() as logs:
        await run_beside([site.make_scheduler()], site.has(State.DONE, "without"))
    assert (await site.progress("with")).done == 0
    assert {line["replay"] for line in logs if line["event"] == "replay.skipped"} == {"with"}
    await run_beside([site.make_scheduler(tmp_path)], site.has(State.DONE, "with"))


async def test_two_entries_with_the_same_id_are_both_copied(site: ReplayedStream, tmp_path: Path) -> None:
    """The stream was deleted and created again. Both are in one page and one step, so no crash separates them."""
    for channel, first in (("sms", 1), ("viber", 2)):  # so that a page would end between two of one id
        await site.append(range(first, 401), payload={"channel": channel})
        await archive(site, tmp_path, first, 400)
        await site.server.delete(site.shard.stream)
    replay = await site.start(400, place=Place.ARCHIVE)
    pages = [page async for page in read_archive(tmp_path, site.shard.stream, Span.full(0), None, None)]
    steps = [step for page in pages for step in plan_steps(replay, page)]
    assert [(step.id.ms, len(step.copies)) for step in steps] == [(1, 1), *((number, 2) for number in range(2, 401))]
    assert [len(part) for part in split_steps(steps[1:], 1)] == [1, 398]
    assert [len(part) for part in split_steps(steps[1:], 5)] == [2, 397]
    assert [len(part) for part in split_steps(steps[1:], 0)] == [0, 399]


async def test_a_dead_letter_is_deleted_when_its_copy_is_made(site: ReplayedStream) -> None:
    """The copy starts at the first attempt without its reason; discarded and other dead letters are not copied."""
    key = site.shard.dead(GROUP)
    await site.append(range(1, 101), key, origin="0/7-7", attempt=24, error="failed: x", replay="former")
    await site.append(range(101, 111), key, origin="0/7-7", attempt=1, error="discarded: x")
    await site.start(110, place=Place.DEAD, selection=EntryFilter(reasons=("failed",)))
    await site.server.xdel(key, "50-0")
    await run_beside([site.make_scheduler()], site.has(State.DONE))
    assert await site.server.xlen(key) == 10
    copies: Any = await site.server.xrange(site.shard.replay(GROUP))
    assert len(copies) == 99 == (await site.progress()).done
    for _, fields in copies:
        assert (fields[b"origin"], fields[b"replay"]) == (b"0/7-7", b"r")
        assert (fields[b"error"], b"attempt" in fields) == (b"failed: x", False)


async def test_old_replays_are_deleted(site: ReplayedStream) -> None:
    """The last 20 replays that have ended stay, and all others that have not."""
    await site.append(range(1, 3))
    await site.start(2, "kept", rate=0.01)
    async with asyncio.TaskGroup() as tasks:
        stop = asyncio.Event()
        tasks.create_task(site.make_scheduler().run(stop, tasks))
        for number in range(KEPT_ENDED + 3):
            await site.start(2, f"r{number:03}")
            await site.has(State.DONE, f"r{number:03}")
        stop.set()
    await site.start(2, "last")
    assert len(await site.replays.all()) == KEPT_ENDED + 2
    assert (await site.progress("kept")).state is State.RUNNING
