"""The history is bounded, survives a restart, and shows its gaps."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiosqlite
import pytest

from console.web.database import open_console_database
from console.web.metrics.counters import StreamMark
from console.web.sampling.findings import Range
from console.web.sampling.history import OPEN_SECONDS, SampleHistory
from console.web.sampling.snapshot import Snapshot
from tests.support.samples.moments import counted

START = 1_800_000_000.0
MARK = {0: StreamMark("a", 42)}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """The console's own database."""
    async with open_console_database(tmp_path / "console.db") as connection:
        yield connection


async def run(
    history: SampleHistory, since: float, seconds: int, *, step: int = 5, before: Snapshot | None = None
) -> Snapshot:
    """Let the history see a webhook a second for this time; return the last moment."""
    latest = before or counted(since, 0)
    answers = int(latest.totals.counts["answers", "200"])
    for later in range(step, seconds + 1, step):
        moment = counted(since + later, answers + later)
        history.add(latest, moment, MARK)
        latest = moment
        await history.write()
    return latest


async def rows(database: aiosqlite.Connection) -> dict[int, int]:
    """Return how many points each tier has."""
    async with database.execute("SELECT tier, count(*) FROM samples GROUP BY tier") as cursor:
        return {tier: count async for tier, count in cursor}


async def test_a_restart_keeps_the_history_and_the_count(database: aiosqlite.Connection) -> None:
    """After a restart the charts continue with a gap, the streams are known, and each webhook counts once."""
    history = SampleHistory(database)
    await history.load(START)
    await run(history, START, 600)
    await history.finish()

    restarted = SampleHistory(database)
    await restarted.load(START + 900)
    await run(restarted, START + 900, 600)
    count = restarted.webhooks_since(START)
    series = await restarted.series(Range.HOUR, START + 1500)

    assert restarted.marks == MARK
    assert count is not None
    assert (count.number, count.is_exact) == (1200, True)
    webhooks = series.values["webhooks"]
    assert {value for value in webhooks if value is not None} == {1.0}
    assert 300 // 15 - 2 <= sum(value is None for value in webhooks[-100:]) <= 300 // 15 + 2


async def test_the_entries_of_a_pause_are_counted(database: aiosqlite.Connection) -> None:
    """Entries that were appended while no console ran are part of the count after its start."""
    history = SampleHistory(database)
    await history.load(START)
    await run(history, START, 60)
    await history.finish()
    restarted = SampleHistory(database)
    await restarted.load(START + 3600)

    restarted.add(counted(START + 3600, 0, stored=0), counted(START + 3601, 0, stored=5000), MARK)
    count = restarted.webhooks_since(START)

    assert count is not None
    assert count.number == 5060


async def test_a_quick_restart_continues_its_point(database: aiosqlite.Connection) -> None:
    """Two runs within the same five seconds share a point, which holds the counts of both."""
    history = SampleHistory(database)
    await history.load(START)
    history.add(counted(START, 0), counted(START + 1, 7), MARK)
    await history.finish()
    restarted = SampleHistory(database)
    await restarted.load(START + 2)

    restarted.add(counted(START + 2, 0), counted(START + 3, 5), MARK)
    await restarted.finish()
    again = SampleHistory(database)
    await again.load(START + 10)
    count = again.webhooks_since(START)

    assert count is not None
    assert count.number == 12


async def test_the_tiers_are_bounded(database: aiosqlite.Connection) -> None:
    """However long it runs, each tier keeps its time and no more, and a chart of a week covers the week."""
    history = SampleHistory(database)
    await history.load(START)

    await run(history, START, 8 * 86_400, step=2400)
    latest = await run(history, START + 8 * 86_400, 4200)
    series = await history.series(Range.WEEK, latest.taken_at)

    counts = await rows(database)
    assert 3600 // 5 <= counts[5] <= (3600 + OPEN_SECONDS) // 5 + 12
    assert counts[60] <= 86_400 // 60 + 10
    assert counts[600] <= 604_800 // 600 + 1
    assert None not in series.values["webhooks"]
    assert {round(value or 0, 6) for value in series.values["webhooks"]} == {1.0}


@pytest.mark.parametrize("chosen", [Range.MINUTES_15, Range.HOUR])
async def test_the_area_of_a_chart_is_the_number_counted(database: aiosqlite.Connection, chosen: Range) -> None:
    """Readings that are late by seconds or minutes lose nothing: no step is a gap or a peak."""
    history = SampleHistory(database)
    await history.load(START)
    latest = await run(history, START, 10, step=1)
    for seconds in (1, 2, 7, 1, 31, 2, 120, 3, 2, 2, 241, 1, 4, 11):  # 428
        latest = await run(history, latest.taken_at, seconds, step=seconds, before=latest)
    silent = replace(latest, taken_at=latest.taken_at + 1)
    history.add(latest, silent, MARK)
    await run(history, latest.taken_at, 72, step=36, before=silent)

    series = await history.series(chosen, START + 509)

    assert sum(value or 0 for value in series.values["webhooks"]) * series.step == pytest.approx(510)
    assert {round(value, 6) for value in series.values["handled"] if value is not None} == {1.0}


async def test_the_streams_are_known_after_a_crash_in_a_stall(database: aiosqlite.Connection) -> None:
    """The last point on the disk may be one of a stall, without streams; then those of the point before count."""
    history = SampleHistory(database)
    await history.load(START)
    latest = await run(history, START, 20)
    await run(history, latest.taken_at, 60, step=60, before=latest)

    restarted = SampleHistory(database)
    await restarted.load(START + 90)

    assert restarted.marks == MARK


async def test_a_crash_loses_seconds_only(database: aiosqlite.Connection) -> None:
    """Without a proper end, the finest points are merged at the next start, even hours later."""
    history = SampleHistory(database)
    await history.load(START)
    await run(history, START, 1200)

    restarted = SampleHistory(database)
    await restarted.load(START + 8 * 3600)
    count = restarted.webhooks_since(START)
    series = await restarted.series(Range.DAY, START + 8 * 3600)

    assert count is not None
    assert 1190 <= count.number <= 1200
    assert sum(value is not None for value in series.values["webhooks"]) >= 1200 // 300


async def test_a_point_of_another_version_is_a_gap(database: aiosqlite.Connection) -> None:
    """Points that cannot be read are left out, and the others continue."""
    history = SampleHistory(database)
    await history.load(START)
    await run(history, START, 120)
    await history.finish()
    await database.execute("UPDATE samples SET data = '[]' WHERE tier = 5 AND start = ?", (START + 60,))
    await database.execute("UPDATE samples SET data = x'00' WHERE tier = 60")

    restarted = SampleHistory(database)
    await restarted.load(START + 121)
    series = await restarted.series(Range.MINUTES_15, START + 121)

    assert [value for value in series.values["webhooks"] if value is not None] == [1.0] * 23


async def test_a_broken_disk_costs_points_only(tmp_path: Path) -> None:
    """If the database fails, samples continue, and charts show the points in memory."""
    async with open_console_database(tmp_path / "console.db") as database:
        await database.execute("DROP TABLE samples")
        history = SampleHistory(database)
        await history.load(START)

        latest = await run(history, START, 60)
        series = await history.series(Range.MINUTES_15, latest.taken_at)

    assert [value for value in series.values["webhooks"] if value is not None] == [1.0] * 12
