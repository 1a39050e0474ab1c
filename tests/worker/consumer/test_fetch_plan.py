from hypothesis import given
from hypothesis import strategies as st

from stream.keys import Shard
from worker.consumer.fetch_plan import BATCH_SECONDS, SHARE, next_batch_size, plan_fetch
from worker.sources import FEW, Source, streams

sizes = st.integers(1, 5000)
copies = st.integers(0, FEW)


@given(sizes)
def test_without_load_one_read_waits_for_a_few_of_each(size: int) -> None:
    """The read takes the same number from each stream, as COUNT works, and at most a batch."""
    idle = plan_fetch(size, busy=False)
    assert idle.waits
    assert set(idle.counts) == set(Source)
    assert set(idle.counts.values()) == {min(FEW, size)}


@given(sizes)
def test_under_load_copies_get_a_share(size: int) -> None:
    """Under load a read takes a full batch of live entries, and a quarter of one (or a few) of retries and replays."""
    busy = plan_fetch(size, busy=True)
    assert not busy.waits
    assert busy.counts[Source.LIVE] == size
    assert busy.counts[Source.RETRY] == busy.counts[Source.REPLAY] <= max(size // SHARE, min(FEW, size))


@given(sizes, copies, st.booleans(), st.booleans())
def test_only_wanted_streams_are_read(size: int, copies: int, busy: bool, live: bool) -> None:
    """The plan has no retries and replays while enough wait, and no live entries at the backlog limit."""
    counts = plan_fetch(size, busy=busy, copies=copies, live=live).counts
    assert (Source.LIVE in counts) == live
    assert (Source.RETRY in counts) == (Source.REPLAY in counts) == bool(copies)
    assert all(counts.values())


def test_live_entries_come_first_and_replays_last() -> None:
    """The streams of a plan are in the order in which their entries are handled."""
    assert list(plan_fetch(100, busy=True).counts) == [Source.LIVE, Source.RETRY, Source.REPLAY]
    assert list(streams(Shard(), "g")) == [Source.LIVE, Source.RETRY, Source.REPLAY]


@given(sizes, sizes, st.floats(0, 1e6))
def test_batches_are_as_large_as_their_time_allows(size: int, maximum: int, seconds: float) -> None:
    """After a quick batch the size doubles; after a slow one it shrinks to BATCH_SECONDS of work."""
    size = min(size, maximum)
    result = next_batch_size(size, maximum, seconds)
    assert 1 <= result <= maximum
    if seconds > BATCH_SECONDS:
        assert result <= max(1, size / seconds)
    else:
        assert size <= result <= 2 * size


def test_a_batch_grows_to_its_limit() -> None:
    """Quick batches reach the limit in a few steps."""
    size, steps = FEW, 0
    while size < 4000:
        size, steps = next_batch_size(size, 4000, 0.1), steps + 1
    assert (size, steps) == (4000, 7)
