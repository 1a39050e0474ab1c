"""The entries that ingest would append for the payloads."""

from collections.abc import Iterable, Iterator

from stream.entry import Entry

_FIRST_MS = 1_738_584_865_000


def entries(payloads: Iterable[bytes]) -> Iterator[Entry]:
    """Yield an entry for each payload, a millisecond after the one before."""
    for number, payload in enumerate(payloads):
        yield Entry(
            payload=payload,
            content_type="application/json",
            received_ms=_FIRST_MS + number,
            receipt=f"benchbenchbenchb-{number:x}",
        )
