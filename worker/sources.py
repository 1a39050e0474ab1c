"""The streams that a group reads."""

from enum import StrEnum

from stream.keys import Shard

FEW = 50
"""Entries of each stream in one read while the group keeps up with live entries."""


class Source(StrEnum):
    """The streams of a group, in the order in which entries of one read are handled."""

    LIVE = "live"
    RETRY = "retry"
    REPLAY = "replay"


def streams(shard: Shard, group: str) -> dict[Source, str]:
    """Return the keys of the streams that a group reads."""
    return {Source.LIVE: shard.stream, Source.RETRY: shard.retry(group), Source.REPLAY: shard.replay(group)}
