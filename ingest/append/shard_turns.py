"""Gives each batch to the next shard in turn, so that the shards get equal parts of the entries."""

from redis.asyncio import Redis

from ingest.encoding import command
from stream.keys import Shard
from stream.settings import StreamSettings
from stream.shard_watch import ShardWatch


class SingleShard(ShardWatch):
    """One shard alone, as if the stream had no other."""

    def __init__(self, server: Redis, settings: StreamSettings, shard: Shard) -> None:
        super().__init__(server, settings, creates=False)
        self.shards = [shard]

    async def refresh(self) -> None:
        """Do nothing: it stays this shard."""


class ShardTurns:
    """The turns of the shards in use. A change of their number takes effect with the next batch."""

    def __init__(self, watch: ShardWatch) -> None:
        self._watch = watch
        self._layout = watch.layout
        self._keys = self._encode_keys()
        self._next = 0

    def next_key(self) -> bytes:
        """Return the key of the shard whose turn it is, as an argument of a command."""
        if self._layout is not self._watch.layout:
            self._layout, self._keys = self._watch.layout, self._encode_keys()
        self._next = (self._next + 1) % len(self._keys)
        return self._keys[self._next]

    def _encode_keys(self) -> list[bytes]:
        return [command([shard.stream.encode()]) for shard in self._watch.shards[: self._watch.layout.used]]
