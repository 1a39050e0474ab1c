from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.samples.events import body, event
from worker.store.contribution import (
    LAST_BUCKET,
    Changes,
    ContributionTally,
    bucket_seconds,
    find_bucket,
    find_contribution,
)
from worker.store.projection import MessageState, project


def state(**fields: object) -> MessageState:
    return project([replace(event(body()), **fields)])  # type: ignore[arg-type]


def changes_of(*states: MessageState, counted: str | None = None) -> Changes:
    """Return the changes if each state replaces this contribution."""
    tally = ContributionTally()
    for changed in states:
        tally.replace(counted, find_contribution(changed))
    return tally.sum()


@given(st.floats(0.1, 1_000_000))
def test_the_middle_of_a_bucket_is_at_most_5_percent_off(seconds: float) -> None:
    """Each time to delivery up to 11 days is shown with an error of at most 5 %."""
    assert abs(bucket_seconds(find_bucket(seconds)) / seconds - 1) <= 0.05


def test_times_beyond_the_buckets_are_in_the_outer_ones() -> None:
    """A delivery before its submission counts as immediate, and one after a year as the longest."""
    assert (find_bucket(-5), find_bucket(0), find_bucket(3e7)) == (0, 0, LAST_BUCKET)


@pytest.mark.parametrize("odd", ["a:b 1+", "\t" * 9, "x" * 1024, "\U0001f600" * 1024])
def test_odd_texts_stay_one_short_value(odd: str) -> None:
    """A value with the separators of a contribution does not disturb it, and a long value is cut."""
    odd_state = state(channel=odd, account=odd, application=odd, network_code=odd, error_code=odd, currency=odd)

    changes = changes_of(odd_state)

    assert [dimension[1:] for dimension in changes.dimensions] == [(odd[:64],) * 6]
    hour = odd_state.status_at.replace(minute=0, second=0, microsecond=0)
    assert dict(changes.statuses) == {(hour, changes.dimensions[0].id): [1, 0, 1, 0, 0, 0, 0, 0, 0]}


def test_equal_values_have_one_dimension() -> None:
    """The id depends on all values and on their places."""
    states = [state(channel="a"), state(channel="a", account=""), state(account="a"), state(channel="a", account="a")]
    assert [len(changes_of(*states[:number]).dimensions) for number in (1, 2, 3, 4)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("price", "units"),
    [("0.0333", 33_300_000), ("1e-2", 10_000_000), ("-1", -1_000_000_000), ("0", 0), ("1e4", 10**13), ("-0", 0)],
)
def test_prices_are_whole_units(price: str, units: int) -> None:
    """A price is a whole number of units of its currency, in any notation."""
    priced = state(price=price, currency="EUR")
    (amounts,) = changes_of(priced, priced, priced).statuses.values()
    assert list(amounts[-2:]) == [3, 3 * units]


@pytest.mark.parametrize("price", ["10000.01", "1e999", "-20000", None])
def test_senseless_prices_are_not_added(price: str | None) -> None:
    """A price that could make a sum of 64 bits overflow is left out."""
    (amounts,) = changes_of(state(price=price, currency="EUR")).statuses.values()
    assert list(amounts[-2:]) == [0, 0]


def test_a_contribution_that_is_written_again_changes_only_its_text() -> None:
    """A state with the contribution that the roll-ups contain adds nothing, and its text differs each time."""
    again = state(error_code="1000", price="1")
    texts = [ContributionTally().replace(None, find_contribution(again))]
    for _ in range(3):
        tally = ContributionTally()
        texts.append(tally.replace(texts[-1], find_contribution(again)))
        assert not tally.sum().statuses
        assert not tally.sum().deliveries
    assert texts[0] == texts[2] != texts[1] == texts[3]
