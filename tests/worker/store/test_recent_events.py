"""The cache of recent events has a limit in bytes and keeps the events that are used."""

from dataclasses import replace

from tests.support.samples.events import body, event
from worker.events.event import StatusEvent
from worker.store.recent_events import REMEMBERED_BYTES, RecentEvents


def is_found(recent: RecentEvents, status_event: StatusEvent) -> bool:
    receipt = status_event.event_id, status_event.entry, status_event.account, status_event.account_verified
    return recent.find((*receipt, status_event.application)) == status_event


def test_the_least_recently_used_event_is_removed() -> None:
    """An event that is used again stays longer than newer ones; an event added twice counts its bytes once."""
    first, second, third = (replace(event(body(n=n)), raw=bytes(REMEMBERED_BYTES // 5)) for n in range(3))
    recent = RecentEvents()
    recent.remember([first, second, second])
    assert is_found(recent, first)
    assert is_found(recent, second)
    assert is_found(recent, first)
    recent.remember([third])
    assert [is_found(recent, each) for each in (first, second, third)] == [True, False, True]


def test_an_event_with_another_receipt_is_not_found() -> None:
    """If another writer stored an earlier receipt, the cache has no event and the row is read."""
    status_event = event(body())
    recent = RecentEvents()
    recent.remember([status_event])
    assert not is_found(recent, replace(status_event, entry="0/1-1"))


def test_the_bytes_of_a_query_count() -> None:
    """The query counts, because it may be much longer than the payload."""
    recent, query = RecentEvents(), {"q": "x" * REMEMBERED_BYTES}
    recent.remember([replace(event(body()), query=query)])
    assert not is_found(recent, replace(event(body()), query=query))
