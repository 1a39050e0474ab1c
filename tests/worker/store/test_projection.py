import random
from itertools import permutations
from operator import attrgetter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.samples.events import RECEIVED_MS, body, deliveries, event, events_of, messages_api, receipts
from tests.support.workers.store_rows import project_states
from worker.events.event import StatusEvent
from worker.store.projection import dedupe, extend, is_repeat, merge_receipts, project, sort_key


@given(deliveries(), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(
    delivered: list[tuple[bytes, int, str | None]], rng: random.Random
) -> None:
    """The same events in any order, with repetitions, give the same states."""
    events = events_of(delivered)
    repeated = events + rng.choices(events, k=3)
    rng.shuffle(repeated)
    assert project_states(repeated) == project_states(events)
    assert dedupe(repeated) == dedupe(events)


@given(deliveries(messages=1))
def test_merging_receipts_is_associative_and_idempotent(delivered: list[tuple[bytes, int, str | None]]) -> None:
    """Receipts of one event can be merged in any grouping."""
    payload = delivered[0][0]
    receipts = events_of([(payload, received_ms, account) for _, received_ms, account in delivered])
    result = receipts[0]
    for each in receipts[1:]:
        result = merge_receipts(result, each)
    right = receipts[-1]
    for each in reversed(receipts[:-1]):
        right = merge_receipts(each, right)
    assert result == right == merge_receipts(result, result)


@st.composite
def first_events(draw: st.DrawFn) -> list[StatusEvent]:
    """Events of one message, each with another status."""
    bodies = messages_api.map(lambda fields: body(**fields)) | receipts.map(
        lambda fields: orjson.dumps({"messageId": "m-1"} | fields)
    )
    accounts = st.sampled_from([None, None, "abcd1234", "verified"])
    webhooks = st.tuples(bodies, st.integers(RECEIVED_MS, RECEIVED_MS + 1), accounts)
    events = webhooks.map(lambda webhook: events_of([webhook])[0])
    return draw(st.lists(events, min_size=2, max_size=4, unique_by=attrgetter("status")))


@given(first_events())
def test_a_state_with_one_more_event_equals_the_projection_of_all(events: list[StatusEvent]) -> None:
    """``extend`` gives the state and the order of the statuses that all events give, or None."""
    for place in range(1, len(events)):
        extended, state = extend(project(events[:place]), events[place]), project(events[: place + 1])
        assert extended is None or (extended, list(extended.statuses)) == (state, list(state.statuses))


_USAGE = {"usage": {"price": "0.0333", "currency": "EUR"}}
_USUAL = [
    event(body(status=status, timestamp=f"2020-01-01T14:00:0{second}Z", to="447700900000", **usage), account="a")
    for second, (status, usage) in enumerate((("submitted", {}), ("delivered", _USAGE), ("read", {})))
]


@pytest.mark.parametrize("events", list(permutations(_USUAL)))
def test_the_usual_statuses_extend_a_state_in_any_order(events: tuple[StatusEvent, ...]) -> None:
    """The states before are enough, also if a status comes late."""
    first, second, third = events
    state = extend(project([first]), second)
    assert state is not None
    assert extend(state, third) == project(events)


@given(deliveries(messages=1, limit=4))
def test_a_repeat_is_an_event_that_merging_leaves_unchanged(delivered: list[tuple[bytes, int, str | None]]) -> None:
    """An event is a repeat of its stored receipt if merging both gives the stored one."""
    payload = delivered[0][0]
    stored, *others = events_of([(payload, received_ms, account) for _, received_ms, account in delivered])
    assert [is_repeat(each, stored) for each in others] == [merge_receipts(stored, each) == stored for each in others]


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("submitted", "delivered", "delivered"),
        ("delivered", "submitted", "delivered"),
        ("read", "delivered", "read"),
        ("read", "rejected", "read"),
        ("seen", "submitted", "submitted"),
        ("submitted", "undelivered", "undelivered"),
        ("failed", "revoked", "revoked"),
        ("delivered", "expired", "delivered"),
        ("delivered", "undeliverable", "undeliverable"),
        ("undeliverable", "delivered", "delivered"),
    ],
)
def test_the_greater_rank_wins_then_the_later_time(first: str, second: str, status: str) -> None:
    """A later status replaces one of the same rank, but not one of a higher rank."""
    earlier = event(body(status=first, timestamp="2020-01-01T14:00:00Z"))
    later = event(body(status=second, timestamp="2020-01-01T14:00:01Z"))
    assert project([earlier, later]).status == status


def test_without_a_time_the_receipt_counts() -> None:
    """Two events without a timestamp are ordered by their time of receipt."""
    earlier, later = event(body(status="delivered"), RECEIVED_MS), event(body(status="rejected"), RECEIVED_MS + 1)
    assert project([later, earlier]).status == "rejected"


def test_no_two_events_are_equal_in_order() -> None:
    """With equal ranks and times the event id decides, so exactly one event is current."""
    first, second = event(body(x=1)), event(body(x=2))
    assert sort_key(first) != sort_key(second)
    assert project([first, second]) == project([second, first])


def test_columns_come_from_the_greatest_event_that_has_them() -> None:
    """`read` without a price keeps the price of `delivered`; the error belongs to the current event."""
    delivered = event(body(status="delivered", usage={"price": "0.1", "currency": "EUR"}, error={"title": "1000"}))
    read = event(body(status="read", client_ref="r"))
    state = project([delivered, read])
    assert (state.price, state.currency, state.client_ref, state.error_code) == ("0.1", "EUR", "r", None)


@pytest.mark.parametrize("zero", ["0", "0.00", "-0", ".0", "0e7", "00.0E-2"])
def test_a_price_of_0_never_replaces_another(zero: str) -> None:
    """A price stays with its currency when a price of 0 follows; 0 counts only if all prices are 0."""
    delivered = event(body(status="delivered", usage={"price": "0.1", "currency": "EUR"}))
    read = event(body(status="read", usage={"price": zero, "currency": "USD"}))
    again = event(body(status="read", usage={"price": "0.2"}, n=1))
    assert [
        (state.price, state.currency) for state in map(project, ([delivered, read], [read], [delivered, again]))
    ] == [
        ("0.1", "EUR"),
        (zero, "USD"),
        ("0.2", "EUR"),
    ]


def test_a_verified_account_wins_over_a_claimed_one() -> None:
    """The verified account wins even if the event that claims another one is greater."""
    proved = event(b'{"messageId":"1","status":"accepted"}', account="proved", verified="sig")
    claimed = event(b'{"messageId":"1","status":"delivered","api-key":"claimed"}')
    assert project([proved, claimed]).account == "proved"


def test_each_status_has_the_time_when_it_was_first_reached() -> None:
    """The earliest event of each status gives its time, and the statuses are ordered by time."""
    events = [
        event(body(status="delivered", timestamp="2020-01-01T14:00:05Z")),
        event(body(status="submitted", timestamp="2020-01-01T14:00:01Z")),
        event(body(status="delivered", timestamp="2020-01-01T14:00:02Z")),
    ]
    reached = project(events).statuses
    assert [(status, moment.second) for status, moment in reached.items()] == [("submitted", 1), ("delivered", 2)]
