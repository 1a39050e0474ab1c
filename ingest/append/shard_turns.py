"""Divides batches among the shards: one batch for each shard in turn, or each entry by its message."""

from collections.abc import Sequence

from redis.asyncio import Redis

from ingest.encoding import command, find_payload
from stream.keys import Shard
from stream.payload import choose_shard
from stream.settings import StreamSettings
from stream.shard_watch import ShardWatch

Part = tuple[bytes, Sequence[bytes]]
"""The key of a shard as an argument of a command, and the packed entries that it gets."""


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

    def split(self, batch: Sequence[bytes]) -> list[Part]:
        """Return the parts of a batch: all of it goes to the shard whose turn it is."""
        keys = self._refresh_keys()
        self._next = (self._next + 1) % len(keys)
        return [(keys[self._next], batch)]

    def _refresh_keys(self) -> list[bytes]:
        if self._layout is not self._watch.layout:
            self._layout, self._keys = self._watch.layout, self._encode_keys()
        return self._keys

    def _encode_keys(self) -> list[bytes]:
        return [command([shard.stream.encode()]) for shard in self._watch.shards[: self._watch.layout.used]]


class MessageShards(ShardTurns):
    """Order mode: all entries of a message go to one shard. Entries without a message go to shard 0."""

    def split(self, batch: Sequence[bytes]) -> list[Part]:
        """Return the parts of a batch, in the order of the batch; an empty batch goes to the next shard."""
        keys = self._refresh_keys()
        if len(keys) == 1 or not batch:
            return super().split(batch)
        parts: dict[bytes, list[bytes]] = {}
        for packed in batch:
            parts.setdefault(keys[choose_shard(find_payload(packed), len(keys))], []).append(packed)
        return list(parts.items())
