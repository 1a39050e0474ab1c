"""The direct paths to a cluster: one for each shard, with its own connection, checks and circuit breaker.

A batch goes to the next shard in turn whose path is open. So while a node is away, or a slot moves, only its shards get
no entries. A batch whose confirmation is lost goes to the spool, as on one server. The drainer probes the path of
shard 0, which has the id that the spool needs; `run` probes the others.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from ingest.append.connection import EntrySink
from ingest.append.redis_writer import PROBE_SECONDS, Feed, NotConfirmed, RedisWriter
from ingest.append.server_checks import ServerChecks, ServerNotReady
from ingest.append.shard_turns import SingleShard
from ingest.settings import IngestSettings
from stream.keys import Shard
from stream.redis.client import limit_wait
from stream.redis.cluster import at_key
from stream.redis.errors import AWAY, RedisFault
from stream.shard_watch import ShardWatch

CONFIRM_SECONDS = 2.0
CLOSED_SECONDS = 3600.0


class ShardWriters:
    """The paths to all known shards, in the order of their numbers. It has the methods of a `RedisWriter`."""

    def __init__(self, server: Redis, watch: ShardWatch, settings: IngestSettings) -> None:
        self._server = server
        self._watch = watch
        self._settings = settings
        self._checks: list[ServerChecks] = []
        self._writers: list[RedisWriter] = []
        self._turn = 0
        self._home = self._last = self._draining = self.writer_of(settings.shard)

    @property
    def is_open(self) -> bool:
        """Whether entries may be sent to at least one shard."""
        return any(writer.is_open for writer in self._used)

    @property
    def may_drain(self) -> bool:
        """Whether spooled entries may be sent to Redis."""
        return self._home.is_open

    @property
    def reason(self) -> str:
        """The name of the fault of the last path that was used, for logs and metrics."""
        return self._last.reason

    @property
    def fault(self) -> RedisFault | None:
        """A fault for which an operator has to act, else one that closed all paths; None without both."""
        worst = self._find_worst()
        return None if worst is None else worst.fault

    @property
    def error(self) -> Exception | None:
        """The error behind ``fault``."""
        worst = self._find_worst()
        return None if worst is None else worst.error

    async def append(self, batch: Sequence[bytes], within_seconds: float) -> None:
        """Append to the next shard in turn whose path is open. Raises NotConfirmed."""
        writer = self._take_turn()
        if writer is None:
            raise NotConfirmed
        self._last = writer
        await writer.append(batch, within_seconds)

    async def connect(self) -> EntrySink:
        """Open a connection for spooled entries, to the next shard in turn. Raises RedisError."""
        self._require_home()
        self._draining = self._take_turn() or self._home
        return await self._draining.connect()

    def fail(self, exc: RedisError | ServerNotReady) -> None:
        """Close the path of the last connection for spooled entries."""
        self._draining.fail(exc)

    def remind(self, spool_entries: int) -> None:
        """Log the faults again every minute if an operator has to act on them."""
        for writer in self._writers:
            writer.remind(spool_entries)

    async def check(self, *, fully: bool) -> None:
        """Check the nodes of all open paths; close those that are not good enough."""
        await asyncio.gather(*(writer.check(fully=fully) for writer in self._writers))

    async def probe(self, feed: Feed, within_seconds: float = PROBE_SECONDS) -> None:
        """Probe the path of shard 0 when it is due."""
        await self._home.probe(feed, within_seconds)

    async def open_others(self, within_seconds: float) -> None:
        """Read the layout, and probe the paths of all other shards once."""
        with suppress(RedisError):
            async with limit_wait(within_seconds):
                await self._watch.refresh()
        others = map(self.writer_of, self._watch.shards[1:])
        await asyncio.gather(*(writer.probe(_try_append, within_seconds) for writer in others))

    async def run(self) -> None:
        """Probe each closed path, except that of shard 0, when it is due; until cancelled."""
        async with asyncio.TaskGroup() as tasks:

            def start(shard: Shard) -> None:
                writer = self.writer_of(shard)
                if writer is not self._home:
                    tasks.create_task(_keep_open(writer), name=shard.stream)

            with self._watch.start_each(start):
                await asyncio.Event().wait()

    async def wait_until_closed(self, within_seconds: float) -> None:
        """Return when the path of shard 0 is closed, or after this time."""
        await self._home.wait_until_closed(within_seconds)

    async def close(self) -> None:
        """Close all connections."""
        for writer in self._writers:
            await writer.close()

    def _require_home(self) -> None:
        self._draining = self._home
        if not self._home.is_open:
            raise RedisConnectionError("shard 0 is away, and it has the id that the spool needs")

    @property
    def _used(self) -> Sequence[RedisWriter]:
        """The paths of the shards in use."""
        return self._writers[: self._watch.layout.used]

    def _take_turn(self) -> RedisWriter | None:
        used = self._used
        for _ in used:
            self._turn = (self._turn + 1) % len(used)
            if used[self._turn].is_open:
                return used[self._turn]
        return None

    def writer_of(self, shard: Shard) -> RedisWriter:
        """Return the path of a shard."""
        while shard.number >= len(self._writers):
            self._add_writer(Shard(shard.name, len(self._writers)))
        return self._writers[shard.number]

    def _add_writer(self, shard: Shard) -> None:
        server = at_key(self._server, shard.stream)
        self._checks.append(ServerChecks(server, self._settings.ack, self._checks))
        watch = SingleShard(server, self._settings, shard)
        self._writers.append(RedisWriter(server, watch, self._checks[-1], peers=self._writers))

    def _find_worst(self) -> RedisWriter | None:
        faults = [(writer, writer.fault or AWAY) for writer in self._used if not writer.is_open]
        lasting = [writer for writer, fault in faults if not fault.passing]
        if lasting:
            return lasting[0]
        return None if self.is_open else self._home


async def _keep_open(writer: RedisWriter) -> None:
    while True:
        await writer.wait_until_closed(CLOSED_SECONDS)
        if not writer.is_open:
            await writer.probe(_try_append)


async def _try_append(connection: EntrySink) -> None:
    await connection.append((), CONFIRM_SECONDS)


Writer = RedisWriter | ShardWriters
