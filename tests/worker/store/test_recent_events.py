"""What `store` remembers is bounded in bytes, and what it uses stays."""

from dataclasses import replace

from tests.support.samples.events import body, event
from worker.events.event import StatusEvent
from worker.store.recent_events import REMEMBERED_BYTES, RecentEvents


def is_found(recent: RecentEvents, one: StatusEvent) -> bool:
    return recent.find((one.event_id, one.entry, one.account, one.account_verified, one.application)) == one


def test_what_was_not_used_for_the_longest_time_is_forgotten() -> None:
    """An event that is used again outlives those that came after it; one that is kept twice takes its bytes once."""
    one, two, three = (replace(event(body(n=n)), raw=bytes(REMEMBERED_BYTES // 5)) for n in range(3))
    recent = RecentEvents()
    recent.remember([one, two, two])
    assert is_found(recent, one)
    assert is_found(recent, two)
    assert is_found(recent, one)
    recent.remember([three])
    assert [is_found(recent, each) for each in (one, two, three)] == [True, False, True]


def test_an_event_with_another_receipt_is_not_found() -> None:
    """Another writer has stored an earlier one: the row has to be read."""
    one = event(body())
    recent = RecentEvents()
    recent.remember([one])
    assert not is_found(recent, replace(one, entry="0/1-1"))


def test_the_bytes_of_a_query_count() -> None:
    """It may be much longer than the payload."""
    recent, query = RecentEvents(), {"q": "x" * REMEMBERED_BYTES}
    recent.remember([replace(event(body()), query=query)])
    assert not is_found(recent, replace(event(body()), query=query))
