"""Order mode on a cluster: an appender for each shard, so each shard is like one Redis server.

While the node of a shard is away, the webhooks of its messages go to the spool, or are refused if that has no room. The
other shards go on. The entries of all shards that are away share batches: each batch in the spool costs an fsync.
"""

import asyncio
from collections.abc import Sequence

from ingest.append.group_commit import Appender
from ingest.append.message_writers import MessageWriters
from ingest.append.redis_writer import NotConfirmed
from ingest.spool.queue import Spool
from stream.entry import Entry
from stream.keys import Shard
from stream.payload import choose_shard
from stream.redis.errors import AWAY
from stream.shard_watch import ShardWatch

BATCHES = 1
"""In flight for each shard. With a second one batches are so small that a webhook takes up to a quarter more CPU."""


class AwayPath:
    """The path to all shards that are away: it is never open."""

    is_open = False
    reason = AWAY.name
    """The name of the fault of the last shard that was found away, for metrics."""

    async def append(self, _batch: Sequence[bytes], _within_seconds: float) -> None:
        """Raise NotConfirmed."""
        raise NotConfirmed


class MessageAppender:
    """The appenders of all shards. It has the methods of an `Appender`."""

    def __init__(self, writers: MessageWriters, watch: ShardWatch, spool: Spool, budget_seconds: float) -> None:
        self._writers = writers
        self._watch = watch
        self._spool = spool
        self._budget_seconds = budget_seconds
        self._appenders: dict[int, Appender] = {}
        self._away = AwayPath()
        self._spooler = Appender(self._away, spool, budget_seconds)

    @property
    def not_ready_reason(self) -> str | None:
        """The reason why the entries of all shards are refused now; None while those of one are accepted."""
        reasons = [self._appender_of(shard).not_ready_reason for shard in self._watch.shards[: self._used]]
        return None if None in reasons else reasons[0]

    def append(self, entry: Entry) -> asyncio.Future[None]:
        """Queue the entry for the shard of its message, as ``Appender.append`` does. Raises NotStored."""
        shard = self._watch.shards[choose_shard(entry.payload, self._used)]
        writer = self._writers.writer_of(shard)
        if writer.is_open:
            return self._appender_of(shard).append(entry)
        self._away.reason = writer.reason
        return self._spooler.append(entry)

    async def run(self) -> None:
        """Run the appenders until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._spooler.run())

            def start(shard: Shard) -> None:
                tasks.create_task(self._appender_of(shard).run(), name=shard.stream)

            with self._watch.start_each(start):
                await asyncio.Event().wait()

    async def finish(self) -> None:
        """Accept no more entries, and return when all waiting ones are stored or refused."""
        appenders = [self._spooler, *map(self._appender_of, self._watch.shards)]
        await asyncio.gather(*(appender.finish() for appender in appenders))

    @property
    def _used(self) -> int:
        return self._watch.layout.used

    def _appender_of(self, shard: Shard) -> Appender:
        if shard.number not in self._appenders:
            writer = self._writers.writer_of(shard)
            self._appenders[shard.number] = Appender(writer, self._spool, self._budget_seconds, BATCHES)
        return self._appenders[shard.number]


AnyAppender = Appender | MessageAppender
