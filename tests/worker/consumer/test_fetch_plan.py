from hypothesis import given
from hypothesis import strategies as st

from stream.keys import Shard
from worker.consumer.fetch_plan import BATCH_SECONDS, SHARE, next_batch_size, plan_fetch
from worker.sources import FEW, Source, streams

sizes = st.integers(1, 5000)
copies = st.integers(0, FEW)


@given(sizes)
def test_while_nothing_is_piled_up_one_read_waits_for_a_few_of_each(size: int) -> None:
    """The same number of every stream, for that is how Redis counts; never more than a batch."""
    idle = plan_fetch(size, busy=False)
    assert idle.waits
    assert set(idle.counts) == set(Source)
    assert set(idle.counts.values()) == {min(FEW, size)}


@given(sizes)
def test_under_load_what_is_not_live_gets_a_share(size: int) -> None:
    """Live entries come in whole batches, retries and replays with at most a fourth of one, or a few."""
    busy = plan_fetch(size, busy=True)
    assert not busy.waits
    assert busy.counts[Source.LIVE] == size
    assert busy.counts[Source.RETRY] == busy.counts[Source.REPLAY] <= max(size // SHARE, min(FEW, size))


@given(sizes, copies, st.booleans(), st.booleans())
def test_only_what_is_wanted_is_read(size: int, copies: int, busy: bool, live: bool) -> None:
    """No retries and replays while enough of them wait, no live entries at the limit of the backlog."""
    most = plan_fetch(size, busy=busy, copies=copies, live=live).counts
    assert (Source.LIVE in most) == live
    assert (Source.RETRY in most) == (Source.REPLAY in most) == bool(copies)
    assert all(most.values())


def test_live_entries_come_first_and_replays_last() -> None:
    """Whatever was read together is admitted in this order."""
    assert list(plan_fetch(100, busy=True).counts) == [Source.LIVE, Source.RETRY, Source.REPLAY]
    assert list(streams(Shard(), "g")) == [Source.LIVE, Source.RETRY, Source.REPLAY]


@given(sizes, sizes, st.floats(0, 1e6))
def test_batches_are_as_large_as_their_time_allows(size: int, most: int, seconds: float) -> None:
    """One entry at least, the limit at most; a quick batch doubles, a slow one shrinks to what it had time for."""
    size = min(size, most)
    found = next_batch_size(size, most, seconds)
    assert 1 <= found <= most
    if seconds > BATCH_SECONDS:
        assert found <= max(1, size / seconds)
    else:
        assert size <= found <= 2 * size


def test_a_batch_grows_to_its_limit() -> None:
    """In a few quick steps."""
    size, steps = FEW, 0
    while size < 4000:
        size, steps = next_batch_size(size, 4000, 0.1), steps + 1
    assert (size, steps) == (4000, 7)
