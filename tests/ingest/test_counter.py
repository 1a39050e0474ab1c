from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, generate_latest

from ingest.counter import Tally


def test_a_tally_counts_by_labels() -> None:
    """A tally is scraped like any other counter."""
    tally = Tally("tested_things", "Things.", ["kind", "of"])
    for labels in [("a", "b"), ("a", "b"), ("c", "")]:
        tally.count(labels)
    assert REGISTRY.get_sample_value("tested_things_total", {"kind": "a", "of": "b"}) == 2
    assert b'tested_things_total{kind="c",of=""} 1.0' in generate_latest(REGISTRY)


def test_the_number_of_counts_is_bounded() -> None:
    """However many different ones come, those after the first have one count together, and the first keep theirs."""
    tally = Tally("tested_many", "Many.", ["number"], limit=50)
    for number in [*range(80), 3]:
        tally.count((str(number),))
    assert len(next(iter(tally.collect())).samples) == 51
    assert REGISTRY.get_sample_value("tested_many_total", {"number": "other"}) == 30
    assert REGISTRY.get_sample_value("tested_many_total", {"number": "3"}) == 2


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "other"]), st.integers(0, 3))), st.integers(1, 6)
)
def test_every_number_is_counted_once(counted: list[tuple[str, str, int]], limit: int) -> None:
    """A label has the sum of its numbers from its first one on, or its numbers are in the sum of the others."""
    tally, expected = Tally("tested_sums", "Sums.", ["kind", "of"], limit), Counter[tuple[str, str]]()
    REGISTRY.unregister(tally)

    for kind, of, number in counted:
        tally.count((kind, of), number)
        is_counted = (kind, of) in expected or len(expected) < limit
        expected[(kind, of) if is_counted else ("other", "other")] += number

    (family,) = tally.collect()
    assert {(sample.labels["kind"], sample.labels["of"]): sample.value for sample in family.samples} == expected
