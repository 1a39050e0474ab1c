"""Points of the history merge without losing a count, and become charts with gaps."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.web.metrics.distribution import Distribution
from console.web.sampling.findings import Range
from console.web.sampling.tiers import (
    FINEST,
    STEPS,
    Point,
    StoredCount,
    find_spans,
    make_point,
    make_series,
    merge,
    spread,
)
from tests.support.samples.moments import counted, group, moment

NAMES = st.sampled_from(["stored", "webhooks", "handled:g"])
NUMBERS = st.integers(0, 10_000).map(float)


@st.composite
def points(draw: st.DrawFn) -> list[Point]:
    """Return points of the finest tier, in the order of their time."""
    starts = sorted(draw(st.sets(st.integers(0, 2000), max_size=60)))
    return [
        Point(
            start * FINEST,
            FINEST,
            covered={"ingest": draw(st.integers(1, 5))},
            counts=draw(st.dictionaries(NAMES, NUMBERS)),
            peaks=draw(st.dictionaries(NAMES, NUMBERS)),
            lasts=draw(st.dictionaries(NAMES, NUMBERS)),
            answer=Distribution((0.1,), draw(st.tuples(NUMBERS, NUMBERS)), draw(NUMBERS)),
        )
        for start in starts
    ]


@given(points())
def test_merging_by_steps_equals_merging_at_once(finest: list[Point]) -> None:
    """Ten minutes made of minutes equal those made of 5 s: counts add up, peaks are the greatest, lasts the latest."""
    by_steps = merge(merge(finest, 60), 600)

    assert by_steps == merge(finest, 600)
    for point in by_steps:
        members = [member for member in finest if member.start // 600 * 600 == point.start]
        for name, peak in point.peaks.items():
            assert peak == max(member.peaks[name] for member in members if name in member.peaks)
        for name, last in point.lasts.items():
            assert last == [member.lasts[name] for member in members if name in member.lasts][-1]
    for name in ("stored", "webhooks", "handled:g"):
        assert sum(point.counts.get(name, 0) for point in by_steps) == sum(
            point.counts.get(name, 0) for point in finest
        )


@given(points())
def test_a_point_survives_the_disk(finest: list[Point]) -> None:
    """A point that was written and read is equal."""
    assert [Point.from_json(point.start, point.step, point.to_json()) for point in finest] == finest


@given(points(), st.sampled_from(Range), st.integers(0, 12_000))
def test_a_chart_is_bounded_and_shows_gaps(finest: list[Point], chosen: Range, now: int) -> None:
    """A chart has at most 300 points that end now, and a None for each step without a sample."""
    series = make_series(finest, chosen, now)

    step = STEPS[chosen]
    assert len(series.times) * step == chosen.seconds
    assert len(series.times) <= 300
    assert series.times[-1] == now
    for index, value in enumerate(series.values.get("webhooks", ())):
        end = math.ceil((now + 1) / step) * step - (len(series.times) - 1 - index) * step
        members = [point for point in finest if end - step <= point.start < end]
        assert (value is None) == (not members)
        if members:
            seconds = sum(point.covered["ingest"] for point in members)
            assert value == sum(point.counts.get("webhooks", 0) for point in members) / seconds


def test_a_point_has_the_events_between_two_moments() -> None:
    """Counts are differences, gauges are those of the later moment, and the covered time is that of the readings."""
    busy = {"g": group(unread=7, pending=3, dead=2, oldest_seconds=1.5)}

    point = make_point(counted(1000.0, 100), counted(1002.0, 150, groups=busy), {})

    assert (point.start, point.value("webhooks"), point.value("handled:g"), point.value("settled:g")) == (
        1000,
        25,
        25,
        25,
    )
    assert (point.value("outstanding:g"), point.value("dead:g"), point.value("oldest:g")) == (10, 2, 1.5)
    assert point.answer.count == 50
    assert (point.value("answer_p50") or 0) < 0.01


@given(
    st.lists(st.tuples(st.floats(0.1, 400), st.integers(0, 999)), min_size=1, max_size=20),
    st.floats(0, 4.9),
)
def test_counts_are_spread_over_the_time_between_two_readings(readings: list[tuple[float, int]], first: float) -> None:
    """Counts and seconds add up to those of the readings, and no point has more than its five seconds."""
    before, number = counted(1000.0 + first, 0), 0
    points = dict[int, Point]()
    for seconds, more in readings:
        number += more
        after = counted(before.taken_at + seconds, number)
        for part in spread(make_point(before, after, {}), find_spans(before, after), 0):
            points.setdefault(part.start, Point(part.start, FINEST)).add(part)
        before = after

    covered = [point.covered["ingest"] for point in points.values() if point.covered]
    assert sum(point.counts.get("webhooks", 0.0) for point in points.values()) == pytest.approx(number)
    assert sum(point.answer.count for point in points.values()) == pytest.approx(number)
    assert sum(covered) == pytest.approx(before.taken_at - 1000.0 - first)
    assert max(covered) <= FINEST + 1e-6
    assert all(point.start % FINEST == 0 for point in points.values())


def test_a_very_late_reading_leaves_a_gap() -> None:
    """Counts of the time before the oldest open point are dropped; the rate of the others is the average."""
    before, after = counted(1000.0, 0), counted(2000.0, 1000)

    points = spread(make_point(before, after, {}), find_spans(before, after), 1500)

    assert points[0].start == 1500
    assert {point.value("webhooks") for point in points if point.covered} == {1.0}


def test_a_part_that_is_away_makes_a_gap() -> None:
    """Without an ingest process or an answer of Redis, its series are None and the others continue."""
    later = counted(1002.0, 150, ingest=())

    point = make_point(counted(1000.0, 100), later, {})

    assert (point.value("webhooks"), point.value("handled:g")) == (None, 25)
    assert make_point(moment(1000.0), moment(1002.0, totals={"redis_at": 1000.0}), {}).value("settled:g") is None


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(0, 5)), min_size=1), st.integers(0, 90_000)
)
def test_webhooks_are_stored_or_in_the_spool(steps: list[tuple[int, int, int]], seconds: int) -> None:
    """The count since a moment has the entries appended since the minute of that moment, and the spool's growth."""
    count = StoredCount(())
    now, minutes = 0, dict[int, tuple[int, int]]()
    stored = spooled = 0
    first_spool = steps[0][2]

    for minutes_later, appended, in_spool in steps:
        now += minutes_later * 60 * FINEST
        minutes.setdefault(now // 60 * 60, (stored, spooled))
        count.add(Point(now, FINEST, counts={"stored": float(appended)}, lasts={"spooled": float(in_spool)}))
        stored += appended
        spooled = in_spool - first_spool

    result = count.since(now - seconds)

    assert result is not None
    mark = minutes[int(result.since)]
    assert result.number == max(stored - mark[0] + spooled - mark[1], 0)
    earlier = [minute for minute in minutes if minute <= now - seconds]
    if seconds <= 86_400:
        assert result.since == (max(earlier) if earlier else min(minutes))


def test_a_lost_stream_makes_a_count_inexact() -> None:
    """A count over the time at which Redis lost its stream says so; a later one is exact again."""
    count = StoredCount(
        [Point(0, FINEST, counts={"stored": 5.0}), Point(60, FINEST, counts={"stored": 2.0, "losses": 1.0})]
    )
    count.add(Point(120, FINEST, counts={"stored": 3.0}))

    over, after = count.since(0), count.since(125)

    assert over is not None
    assert after is not None
    assert (over.number, over.is_exact) == (10, False)
    assert (after.number, after.is_exact) == (3, True)
