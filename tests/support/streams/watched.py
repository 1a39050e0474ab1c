"""The shards of a test's stream, as a process watches them."""

from redis.asyncio import Redis

from ingest.append.shard_turns import ShardTurns
from stream.keys import Shard
from stream.settings import StreamSettings
from stream.shard_watch import ShardWatch


def watch_of(server: Redis, shard: Shard) -> ShardWatch:
    """Return a watch that has not read the layout yet."""
    return ShardWatch(server, StreamSettings(stream=shard.name))


def turns_of(server: Redis, shard: Shard) -> ShardTurns:
    """Return the turns of a stream with one shard."""
    return ShardTurns(watch_of(server, shard))
