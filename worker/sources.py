"""The streams that a group reads."""

from enum import StrEnum

from stream.keys import Shard

FEW = 50
"""Entries of each stream that are read at once while no live entries pile up."""


class Source(StrEnum):
    """A group's streams, in the order in which entries that were read together are handled."""

    LIVE = "live"
    RETRY = "retry"
    REPLAY = "replay"


def streams(shard: Shard, group: str) -> dict[Source, str]:
    """Return the key of each of the group's streams."""
    return {Source.LIVE: shard.stream, Source.RETRY: shard.retry(group), Source.REPLAY: shard.replay(group)}
