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
    "errors": ["KeyError at orders.py:88", "no id: ********0123"],
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
def test_an_entry_matches_if_it_meets_every_criterion(
    selection: EntryFilter, fields: dict[str, str], own_id: str, moment: int
) -> None:
    """Any value of a criterion is enough; the start of a time is inclusive, its end exclusive."""
    payload = body(message_uuid=fields["messages"], status=fields["statuses"], channel=fields["channels"])
    stored = entry(
        payload,
        moment,
        account=fields["accounts"],
        verified="jwt",
        error=f"{fields['reasons']}: {fields['errors']}",
        attempt=1,
    ).to_fields()
    asked = [(getattr(selection, name), value) for name, value in fields.items()] + [(selection.ids, own_id)]
    fits = all(not values or value in values for values, value in asked)
    in_time = (selection.since_ms or 0) <= moment < (selection.until_ms or 2**60)
    for dead in (False, True):
        assert selection.matches(EntryId.from_text(own_id), stored, dead=dead) == (fits and in_time)


@given(selections, st.sampled_from(Place))
def test_a_replay_survives_json(selection: EntryFilter, place: Place) -> None:
    """A replay that is encoded and decoded equals the original."""
    replay = Replay(
        id="a1", group="g", place=place, selection=selection, rate=0.5, begin="0-0", end="5-1", total=7, started_ms=9
    )
    assert Replay.from_json(replay.to_json()) == replay
    orjson.loads(replay.to_json())


@pytest.mark.parametrize("payload", [b"no status", b"{}", b"\xff"])
def test_an_invalid_payload_matches_only_as_a_dead_letter(payload: bytes) -> None:
    """An invalid dead letter matches only a filter without criteria on its contents."""
    stored = entry(payload).to_fields()
    entry_id = EntryId(0, 1, 0)
    assert not ALL.matches(entry_id, stored)
    assert ALL.matches(entry_id, stored, dead=True)
    assert EntryFilter(since_ms=RECEIVED_MS).matches(entry_id, stored, dead=True)
    assert not EntryFilter(statuses=("delivered",)).matches(entry_id, stored, dead=True)


def test_an_entry_without_a_time_matches_no_time() -> None:
    """An entry of another program matches by its id, or without criteria."""
    stored = {b"payload": b"x", b"received_ms": b"yesterday"}
    entry_id = EntryId(0, 1, 0)
    assert EntryFilter(ids=("0/1-0",)).matches(entry_id, stored, dead=True)
    assert not EntryFilter(since_ms=0).matches(entry_id, stored, dead=True)
    assert not EntryFilter(until_ms=2**60).matches(entry_id, stored, dead=True)


def test_the_scope_has_all_criteria() -> None:
    """Logs and listings show the scope."""
    assert ALL.scope == "all"
    selection = EntryFilter(since_ms=0, until_ms=1500, statuses=("read", "delivered"), messages=("m-1",))
    assert selection.scope == (
        "since=1970-01-01T00:00:00+00:00 until=1970-01-01T00:00:01.500000+00:00 message=m-1 status=read,delivered"
    )
