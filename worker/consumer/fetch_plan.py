"""What is read next: how many entries of which of a group's streams. No I/O.

While nothing is piled up, one read waits for all streams and takes a few entries of each, so that a retry or a replay
never stands in a live entry's way for longer than a few entries take. Once more live entries are waiting than that,
they are read in whole batches, and what is not live gets a fourth of such a batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from stream.keys import Shard

FEW = 50
SHARE = 4
BATCH_SECONDS = 1.0


class Source(StrEnum):
    """A group's streams, in the order in which what was read together is handled."""

    LIVE = "live"
    RETRY = "retry"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class Turn:
    """The most entries of each stream. One that ``waits`` takes as many of each and returns once there are any."""

    most: Mapping[Source, int]
    waits: bool


def streams(shard: Shard, group: str) -> dict[Source, str]:
    """Return the key of each of the group's streams."""
    return {Source.LIVE: shard.stream, Source.RETRY: shard.retry(group), Source.REPLAY: shard.replay(group)}


def turn(batch_entries: int, *, busy: bool) -> Turn:
    """Return the next turn. ``busy``: the last one got as many live entries as it asked for."""
    few = min(FEW, batch_entries)
    if not busy:
        return Turn(dict.fromkeys(Source, few), waits=True)
    share = max(few, batch_entries // SHARE)
    return Turn({Source.LIVE: batch_entries, Source.RETRY: share, Source.REPLAY: share}, waits=False)


def paced(batch_entries: int, most: int, seconds: float) -> int:
    """Return how large the next batch shall be, when one of this size took so long: at most BATCH_SECONDS' worth."""
    if seconds > BATCH_SECONDS:
        return max(1, int(batch_entries * BATCH_SECONDS / seconds))
    return min(most, 2 * batch_entries) if seconds < BATCH_SECONDS / 2 else batch_entries
