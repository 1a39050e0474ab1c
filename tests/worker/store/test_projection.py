import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.samples.events import RECEIVED_MS, body, deliveries, event, events_of
from tests.support.workers.store_rows import project_states
from worker.store.projection import dedupe, merge_receipts, project, sort_key


@given(deliveries(), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(
    delivered: list[tuple[bytes, int, str | None]], rng: random.Random
) -> None:
    """The same deliveries in any order, some of them again, give the same states."""
    events = events_of(delivered)
    other = events + rng.choices(events, k=3)
    rng.shuffle(other)
    assert project_states(other) == project_states(events)
    assert dedupe(other) == dedupe(events)


@given(deliveries(messages=1))
def test_joining_is_associative_and_idempotent(delivered: list[tuple[bytes, int, str | None]]) -> None:
    """Receipts of one event may be joined in any grouping."""
    payload = delivered[0][0]
    same = events_of([(payload, received_ms, account) for _, received_ms, account in delivered])
    left = same[0]
    for each in same[1:]:
        left = merge_receipts(left, each)
    right = same[-1]
    for each in reversed(same[:-1]):
        right = merge_receipts(each, right)
    assert left == right == merge_receipts(left, left)


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
    """`second` happened later; a status of the same rank replaces the earlier one, one of a lower rank does not."""
    earlier = event(body(status=first, timestamp="2020-01-01T14:00:00Z"))
    later = event(body(status=second, timestamp="2020-01-01T14:00:01Z"))
    assert project([earlier, later]).status == status


def test_without_a_time_the_receipt_counts() -> None:
    """Two events with no timestamp are ordered by when they came."""
    one, two = event(body(status="delivered"), RECEIVED_MS), event(body(status="rejected"), RECEIVED_MS + 1)
    assert project([two, one]).status == "rejected"


def test_no_two_events_are_equal_in_order() -> None:
    """With equal ranks and times the event_id decides, so there is always one current event."""
    one, two = event(body(x=1)), event(body(x=2))
    assert sort_key(one) != sort_key(two)
    assert project([one, two]) == project([two, one])


def test_columns_come_from_the_greatest_event_that_has_them() -> None:
    """`read` without a price keeps that of `delivered`; the error goes with the event it belongs to."""
    delivered = event(body(status="delivered", usage={"price": "0.1", "currency": "EUR"}, error={"title": "1000"}))
    read = event(body(status="read", client_ref="r"))
    state = project([delivered, read])
    assert (state.price, state.currency, state.client_ref, state.error_code) == ("0.1", "EUR", "r", None)


@pytest.mark.parametrize("zero", ["0", "0.00", "-0", ".0", "0e7", "00.0E-2"])
def test_a_price_of_0_never_replaces_another(zero: str) -> None:
    """What was charged stays, with its currency, whichever event comes later; a 0 stands only where nothing else is."""
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
    """Even where the claiming event is greater."""
    proved = event(b'{"messageId":"1","status":"accepted"}', account="proved", verified="sig")
    claimed = event(b'{"messageId":"1","status":"delivered","api-key":"claimed"}')
    assert project([proved, claimed]).account == "proved"


def test_each_status_keeps_when_it_was_first_reached() -> None:
    """Of several events with one status the earliest time stands, in the order of time."""
    events = [
        event(body(status="delivered", timestamp="2020-01-01T14:00:05Z")),
        event(body(status="submitted", timestamp="2020-01-01T14:00:01Z")),
        event(body(status="delivered", timestamp="2020-01-01T14:00:02Z")),
    ]
    reached = project(events).statuses
    assert [(status, moment.second) for status, moment in reached.items()] == [("submitted", 1), ("delivered", 2)]
