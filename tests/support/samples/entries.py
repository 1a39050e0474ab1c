"""Random entries."""

from hypothesis import strategies as st

from stream.entry import LATEST_MS, Entry, EntryId

texts = st.text(st.characters(exclude_categories=["Cs"]))
maybe = st.none() | texts
entries = st.builds(
    Entry,
    payload=st.binary(),
    content_type=texts,
    received_ms=st.integers(0, LATEST_MS),
    receipt=texts,
    verified=st.sampled_from(["jwt", "sig", "none"]),
    account=maybe,
    application=maybe,
    query=st.none() | st.binary(),
    traceparent=maybe,
    replay=maybe,
    origin=st.none() | st.builds(EntryId, *[st.integers(0, 99_999)] * 3).map(str),
    attempt=st.none() | st.integers(0, 10**9),
    error=maybe,
    signature=maybe,
    probe=maybe,
    unknown_fields=st.dictionaries(st.binary(max_size=5).map(b"later-".__add__), st.binary(max_size=5), max_size=2).map(
        lambda fields: tuple(sorted(fields.items()))
    ),
)
