"""Plans the next read: the number of entries from each of a group's streams. No I/O.

While the group keeps up, one read waits for all streams and takes a few entries of each. Once more live entries wait,
the worker reads them in full batches, with up to a quarter of a batch from the retry and the replay stream each. It
reads retries and replays (copies) only as fast as it handles them, and not while enough of them wait.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from worker.sources import FEW, Source

SHARE = 4
BATCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """The maximum of entries from each stream. A read that ``waits`` returns as soon as one stream has an entry."""

    counts: Mapping[Source, int]
    waits: bool


def plan_fetch(batch_entries: int, *, busy: bool, copies: int = FEW, live: bool = True) -> FetchPlan:
    """Return the plan of the next read; it may name no stream.

    ``busy``: the last read got as many live entries as it asked for. ``copies``: the number of retries, and of replays,
    to read. ``live``: whether to read live entries.
    """
    few = min(FEW, batch_entries)
    if busy and live:
        share = max(few, batch_entries // SHARE) if copies else 0
        counts = {Source.LIVE: batch_entries, Source.RETRY: share, Source.REPLAY: share}
        return FetchPlan({source: count for source, count in counts.items() if count}, waits=False)
    sources = [Source.LIVE] if live else []
    if copies:
        few = min(few, copies)
        sources += [Source.RETRY, Source.REPLAY]
    return FetchPlan(dict.fromkeys(sources, few), waits=True)


def next_batch_size(batch_entries: int, maximum: int, seconds: float) -> int:
    """Return the size of the next batch after one of this size took ``seconds``: at most BATCH_SECONDS of work."""
    if seconds > BATCH_SECONDS:
        return max(1, int(batch_entries * BATCH_SECONDS / seconds))
    return min(maximum, 2 * batch_entries) if seconds < BATCH_SECONDS / 2 else batch_entries
