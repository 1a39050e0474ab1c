"""Plans the next read: how many entries of which of a group's streams. No I/O.

While no live entries pile up, one read waits for all streams and takes a few entries of each. Once more live entries
are waiting than that, they are read in whole batches, and each other stream gets a fourth of such a batch. Retries and
replays are read no faster than they are handled, and not while enough of them wait.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from worker.sources import FEW, Source

SHARE = 4
BATCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """The most entries of each stream. A read that ``waits`` takes as many of each and returns once there are any."""

    counts: Mapping[Source, int]
    waits: bool


def plan_fetch(batch_entries: int, *, busy: bool, copies: int = FEW, live: bool = True) -> FetchPlan:
    """Return the next read; it may be of no stream at all.

    ``busy``: the last one got as many live entries as it asked for. ``others``: how many retries and how many replays
    are wanted. ``live``: whether live entries are.
    """
    few = min(FEW, batch_entries)
    if busy and live:
        share = max(few, batch_entries // SHARE) if copies else 0
        most = {Source.LIVE: batch_entries, Source.RETRY: share, Source.REPLAY: share}
        return FetchPlan({source: count for source, count in most.items() if count}, waits=False)
    wanted = [Source.LIVE] if live else []
    if copies:
        few = min(few, copies)
        wanted += [Source.RETRY, Source.REPLAY]
    return FetchPlan(dict.fromkeys(wanted, few), waits=True)


def next_batch_size(batch_entries: int, most: int, seconds: float) -> int:
    """Return the size of the next batch, when one of this size took so long: at most BATCH_SECONDS' worth."""
    if seconds > BATCH_SECONDS:
        return max(1, int(batch_entries * BATCH_SECONDS / seconds))
    return min(most, 2 * batch_entries) if seconds < BATCH_SECONDS / 2 else batch_entries
