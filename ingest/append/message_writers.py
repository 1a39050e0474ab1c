"""Order mode on a cluster: spooled entries go to the shards of their messages, whether or not their nodes are there.

The first spooled entries whose shard is away hold up the rest of the spool.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from ingest.append.connection import EntrySink
from ingest.append.redis_writer import PROBE_SECONDS, Feed, RedisWriter
from ingest.append.server_checks import ServerNotReady
from ingest.append.shard_writers import CONFIRM_SECONDS, ShardWriters
from ingest.encoding import find_payload
from ingest.settings import IngestSettings
from stream.payload import choose_shard
from stream.shard_watch import ShardWatch

MOST_REMEMBERED = 1000


class MessageWriters(ShardWriters):
    """The paths to all shards in order mode. Spooled entries go to the shards of their messages."""

    def __init__(self, server: Redis, watch: ShardWatch, settings: IngestSettings) -> None:
        super().__init__(server, watch, settings)
        self.remembered: set[bytes] = set()
        """Confirmed entries that stay in the spool, because others of their slice have to wait for another shard."""

    async def connect(self) -> EntrySink:
        """Return connections for spooled entries, opened when they are needed. Raises RedisError."""
        self._require_home()
        return MessageConnections(self, self._watch)

    def fail(self, exc: RedisError | ServerNotReady) -> None:
        """Close the path of shard 0, unless another shard is at fault."""
        if not isinstance(exc, ShardAway):
            self._home.fail(exc)

    async def probe(self, feed: Feed, within_seconds: float = PROBE_SECONDS) -> None:
        """Probe the path of shard 0 when it is due. Without the layout it stays closed: it has the number of shards."""
        await self._home.probe(partial(self._greet, feed), within_seconds)

    async def _greet(self, feed: Feed, connection: EntrySink) -> None:
        await self._watch.refresh()
        await connection.append((), CONFIRM_SECONDS)
        connections = MessageConnections(self, self._watch, connection)
        try:
            with suppress(ShardAway):
                await feed(connections)
        finally:
            await connections.close()


class ShardAway(RedisConnectionError):  # noqa: N818 - named for what has happened
    """Some of the spooled entries have to wait for their shard, which is not shard 0."""


class MessageConnections:
    """Appends spooled entries to the shards of their messages, over a connection for each."""

    def __init__(self, writers: MessageWriters, watch: ShardWatch, home: EntrySink | None = None) -> None:
        """``home`` is a connection to shard 0 that stays open."""
        self._writers = writers
        self._watch = watch
        self._home = home
        self._opened: dict[int, EntrySink] = {}

    async def append(self, batch: Sequence[bytes], within_seconds: float) -> None:
        """Return once all shards have confirmed their entries.

        Raises ShardAway if a shard other than 0 is away, and RedisError for shard 0. A later call with the same entries
        appends those that were not confirmed.
        """
        remembered, used = self._writers.remembered, self._watch.layout.used
        if len(remembered) > MOST_REMEMBERED:  # of files that cannot be read any more
            remembered.clear()
        parts: dict[int, list[bytes]] = {}
        for packed in batch:
            if packed not in remembered:
                parts.setdefault(choose_shard(find_payload(packed), used), []).append(packed)
        away: RedisError | None = None
        for number, part in parts.items():
            try:
                await self._append(number, part, within_seconds)
            except ShardAway as exc:
                away = exc
            else:
                remembered.update(part)
        if away is not None:
            raise away
        remembered.difference_update(batch)

    async def _append(self, number: int, part: Sequence[bytes], within_seconds: float) -> None:
        writer = self._writers.writer_of(self._watch.shards[number])
        if number == 0:
            await (self._home or await self._connect(0, writer)).append(part, within_seconds)
            return
        if not writer.is_open:
            raise ShardAway(f"shard {number} is away")
        try:
            await (await self._connect(number, writer)).append(part, within_seconds)
        except RedisError as exc:
            writer.fail(exc)
            raise ShardAway(f"shard {number} is away") from exc

    async def _connect(self, number: int, writer: RedisWriter) -> EntrySink:
        if number not in self._opened:
            self._opened[number] = await writer.connect()
        return self._opened[number]

    async def close(self) -> None:
        """Close the connections that were opened here."""
        for connection in self._opened.values():
            await connection.close()
