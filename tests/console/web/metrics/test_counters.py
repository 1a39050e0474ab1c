"""The sums of counters count each event once, over restarts of processes and losses of streams."""

from hypothesis import given
from hypothesis import strategies as st

from console.queries.stats import GroupStats, ShardStats
from console.web.metrics.counters import CounterSums, Key, StreamMark, StreamSums, Values
from stream.keys import Shard

KEY = ("answers", "200")
SHARD = Shard()


def counters(number: float) -> dict[Key, Values]:
    """Return the counters of a process that has counted this number."""
    return {KEY: (number,)}


def stats(added: int, *, server_id: str | None = "a", read: int | None = None, pending: int = 0) -> ShardStats:
    """Return a stream with one group."""
    group = GroupStats("g", True, "0-0", 0, pending, read, None)
    return ShardStats(SHARD, 0, added, added, None, None, server_id, 0, 0, [group])


@given(
    st.lists(
        st.tuples(st.sampled_from(["p", "q"]), st.sampled_from(["count", "restart", "scrape"]), st.integers(1, 1000))
    )
)
def test_each_event_that_was_scraped_counts_once(steps: list[tuple[str, str, int]]) -> None:
    """Every increase up to a process's last scrape is in the sum, over any restarts; a restart loses only the rest."""
    sums = CounterSums(watched_since=100.0)
    now, total = 100.0, 0.0
    started: dict[str, float] = {}
    values: dict[str, float] = {}
    scraped: dict[str, float] = {}

    for process, step, number in steps:
        now += 1
        started.setdefault(process, now)
        if step == "count":
            values[process] = values.get(process, 0.0) + number
        elif step == "restart":
            started[process], values[process], scraped[process] = now, 0.0, 0.0
        else:
            total += values.get(process, 0.0) - scraped.get(process, 0.0)
            scraped[process] = values.get(process, 0.0)
            before = sums.sums.get(KEY, (0.0,))[0]
            sums.add(process, started[process], now, counters(scraped[process]))
            assert sums.sums[KEY][0] >= before

    assert sums.sums.get(KEY, (0.0,)) == (total,)


def test_counts_from_before_the_watch_are_left_out() -> None:
    """A process that started earlier adds only its increases; one that starts later adds all that it has counted."""
    sums = CounterSums(watched_since=100.0)

    sums.add("old", 50.0, 101.0, counters(1000))
    sums.add("old", 50.0, 102.0, counters(1003))
    sums.add("new", 101.5, 102.0, counters(7))

    assert sums.sums[KEY] == (10,)


def test_the_time_of_each_increase_is_known() -> None:
    """It starts at the last reading, or at a later start of the process unless its clock is wrong."""
    sums = CounterSums(watched_since=100.0)

    since = [
        sums.add("old", 50.0, 101.0, counters(1000)),
        sums.add("old", 50.0, 107.0, counters(1003)),
        sums.add("new", 104.0, 107.0, counters(7)),
        sums.add("new", 110.0, 112.0, counters(3)),
        sums.add("new", 999.0, 115.0, counters(1)),
    ]

    assert since == [None, 101.0, 104.0, 110.0, 112.0]


def test_a_process_that_ends_keeps_its_part() -> None:
    """The sum includes processes that are gone, and a process that comes back within the hour continues."""
    sums = CounterSums(watched_since=100.0)
    sums.add("p", 101.0, 102.0, counters(5))

    sums.forget(now=200.0)
    sums.add("p", 101.0, 201.0, counters(8))
    sums.forget(now=20_000.0)

    assert sums.sums[KEY] == (8,)


def test_a_counter_that_fell_starts_again() -> None:
    """Without a start time, a smaller value shows the restart; a histogram counts its buckets again."""
    sums = CounterSums(watched_since=100.0)
    key = ("answer", "")

    for at, values in enumerate([(2.0, 1.0, 0.5), (4.0, 1.0, 0.9), (1.0, 0.0, 0.1)]):
        sums.add("p", 0.0, 101.0 + at, {key: values})

    assert sums.sums[key] == (2.0 + 1.0, 0.0, 0.4 + 0.1)


def test_another_version_has_other_buckets() -> None:
    """A histogram with another number of buckets starts at 0, and nothing fails."""
    sums = CounterSums(watched_since=100.0)
    key = ("answer", "")

    sums.add("p", 101.0, 102.0, {key: (1.0, 2.0, 3.0)})
    sums.add("q", 102.0, 103.0, {key: (4.0, 5.0)})

    assert sums.sums[key] == (4.0, 5.0)


@given(st.lists(st.integers(0, 500), min_size=1), st.integers(0, 10_000))
def test_stored_entries_add_up(increases: list[int], before: int) -> None:
    """The sum equals the entries appended since the mark that the last run has left."""
    sums = StreamSums({0: StreamMark("a", before)})
    added = before

    for increase in increases:
        added += increase
        sums.add([stats(added)])

    assert (sums.stored, sums.losses) == (sum(increases), 0)


def test_a_deleted_stream_counts_from_zero() -> None:
    """After the stream is emptied, its new entries count, and the loss is noted."""
    sums = StreamSums({})

    for added, server_id in ((100, "a"), (150, "a"), (20, None), (30, "b")):
        sums.add([stats(added, server_id=server_id)])

    assert (sums.stored, sums.losses) == (50 + 20 + 10, 1)


def test_another_server_adds_nothing_of_its_past() -> None:
    """If the console finds a fuller server with another id, the entries before that are not counted."""
    sums = StreamSums({})

    for added, server_id in ((100, "a"), (5_000_000, "b"), (5_000_007, "b")):
        sums.add([stats(added, server_id=server_id)])

    assert (sums.stored, sums.losses) == (7, 1)


def test_settled_is_read_without_pending() -> None:
    """A group has settled what it has read and acknowledged; a group that is moved back adds nothing."""
    sums = StreamSums({})

    for read, pending in ((10, 10), (30, 5), (4, 0), (6, 0), (None, 0)):
        sums.add([stats(100, read=read, pending=pending)])

    assert sums.settled == {"g": 25 + 2}
