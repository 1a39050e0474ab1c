import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.entry import EntryId
from tests.support.samples.events import RECEIVED_MS, body, entry
from worker.replay.entry_filter import ALL, EntryFilter
from worker.replay.job import Place, Replay

values = {
    "messages": ["m-1", "m-2", "m-3"],
    "statuses": ["submitted", "delivered", "read"],
    "channels": ["sms", "whatsapp"],
    "accounts": ["one", "two"],
    "reasons": ["failed", "attempts", "invalid-status"],
}
ids = [f"0/{ms}-{seq}" for ms in (1, 2) for seq in (0, 1)]
moments = st.none() | st.integers(RECEIVED_MS - 3, RECEIVED_MS + 3)


def some(of: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(of), max_size=2, unique=True).map(tuple)


selections = st.builds(
    EntryFilter,
    since_ms=moments,
    until_ms=moments,
    ids=some(ids),
    **{name: some(choice) for name, choice in values.items()},
)


@given(
    selections,
    st.fixed_dictionaries({name: st.sampled_from(choice) for name, choice in values.items()}),
    st.sampled_from(ids),
    st.integers(RECEIVED_MS - 3, RECEIVED_MS + 3),
)
def test_an_entry_is_meant_if_it_fits_all_that_was_given(
    selection: EntryFilter, own: dict[str, str], own_id: str, moment: int
) -> None:
    """Of several values of one kind any will do; the beginning of a time is in it, its end is not."""
    payload = body(message_uuid=own["messages"], status=own["statuses"], channel=own["channels"])
    stored = entry(
        payload, moment, account=own["accounts"], verified="jwt", error=f"{own['reasons']}: x", attempt=1
    ).to_fields()
    asked = [(getattr(selection, name), value) for name, value in own.items()] + [(selection.ids, own_id)]
    fits = all(not wanted or value in wanted for wanted, value in asked)
    in_time = (selection.since_ms or 0) <= moment < (selection.until_ms or 2**60)
    for dead in (False, True):
        assert selection.matches(EntryId.from_text(own_id), stored, dead=dead) == (fits and in_time)


@given(selections, st.sampled_from(Place))
def test_a_replay_comes_back_as_it_was(selection: EntryFilter, place: Place) -> None:
    """Through JSON, with all that it is of."""
    replay = Replay(
        id="a1", group="g", place=place, selection=selection, rate=0.5, begin="0-0", end="5-1", total=7, started_ms=9
    )
    assert Replay.from_json(replay.to_json()) == replay
    orjson.loads(replay.to_json())


@pytest.mark.parametrize("payload", [b"no status", b"{}", b"\xff"])
def test_what_is_no_status_is_meant_among_dead_letters_only(payload: bytes) -> None:
    """And only if nothing is asked that it cannot answer."""
    stored = entry(payload).to_fields()
    one = EntryId(0, 1, 0)
    assert not ALL.matches(one, stored)
    assert ALL.matches(one, stored, dead=True)
    assert EntryFilter(since_ms=RECEIVED_MS).matches(one, stored, dead=True)
    assert not EntryFilter(statuses=("delivered",)).matches(one, stored, dead=True)


def test_what_says_no_time_is_in_none() -> None:
    """An entry of somebody else's is given back by its id, or with all."""
    stored = {b"payload": b"x", b"received_ms": b"yesterday"}
    one = EntryId(0, 1, 0)
    assert EntryFilter(ids=("0/1-0",)).matches(one, stored, dead=True)
    assert not EntryFilter(since_ms=0).matches(one, stored, dead=True)
    assert not EntryFilter(until_ms=2**60).matches(one, stored, dead=True)


def test_the_scope_says_all_that_was_given() -> None:
    """For logs and listings."""
    assert ALL.scope == "all"
    given = EntryFilter(since_ms=0, until_ms=1500, statuses=("read", "delivered"), messages=("m-1",))
    assert given.scope == (
        "since=1970-01-01T00:00:00+00:00 until=1970-01-01T00:00:01.500000+00:00 message=m-1 status=read,delivered"
    )
