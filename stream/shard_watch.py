"""Follows the layout of a stream while a process runs, and starts what each new shard needs.

The list of shards only grows: a process that reads a shard continues until it ends, because an ingest process that has
not noticed a change yet may still append to it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from runtime.errors import CommandError
from runtime.log_throttle import LogThrottle
from runtime.tasks import cancel_and_wait, wait_for
from stream.keys import Shard
from stream.layout import Layout, change_layout, ensure_layout, read_layout
from stream.redis.client import name_error
from stream.settings import StreamSettings

log = structlog.get_logger("shards")

POLL_SECONDS = 2.0
DENIED_SECONDS = 30.0
REPORT_SECONDS = 600.0

NEXT_STEP = "give this user the rights of deploy/redis-users.acl"

Start = Callable[[Shard], object]
FindShards = Callable[[], Awaitable[Sequence[Shard]]]


class ShardWatch:
    """The layout as this process read it last. Before the first answer it has shard 0, which every stream has.

    Without ``creates`` a missing layout stays missing. A process that ``reads`` the shards cannot work without the
    layout: it would miss the entries of the others.
    """

    def __init__(self, server: Redis, settings: StreamSettings, *, creates: bool = True, reads: bool = False) -> None:
        self._server = server
        self._settings = settings
        self._creates = creates
        self._reads = reads
        self._ask = ensure_layout if creates else read_layout
        self._starts: list[Start] = []
        self._has_read = False
        self._denial: NoPermissionError | None = None
        self._denied_until = 0.0
        self._throttle = LogThrottle(1, seconds=REPORT_SECONDS)
        self.layout = Layout()
        self.shards = [settings.shard]
        """The shards to read."""

    @contextmanager
    def start_each(self, start: Start) -> Iterator[None]:
        """Call ``start`` once for each shard: for those of this moment, and for later ones until the block ends."""
        for shard in self.shards:
            start(shard)
        self._starts.append(start)
        try:
            yield
        finally:
            self._starts.remove(start)

    async def refresh(self) -> None:
        """Read the layout; if Redis has none, write that of the settings.

        Raises RedisError; NoPermissionError only if the process ``reads`` and has never read the layout.
        """
        if time.monotonic() >= self._denied_until:  # each denied request fills the log of the server
            try:
                self._adopt(await self._read())
            except NoPermissionError as exc:
                self._report_denial(exc, can_read=not self._reads or self._has_read)
        if self._reads and not self._has_read and self._denial is not None:
            raise self._denial.with_traceback(None)

    async def find_shards(self) -> Sequence[Shard]:
        """Return all shards. Raises RedisError if the layout, which has their number, was never read, and cannot be."""
        if not self._has_read:
            await self.refresh()
        return self.shards

    async def run(self, stop: asyncio.Event) -> None:
        """Read the layout every POLL_SECONDS until ``stop``. While Redis is away the last one stays.

        Raises CommandError if a console may not read it. A worker waits for the right, and is not ready.
        """
        while not stop.is_set():
            try:
                await self.refresh()
            except RedisError as exc:
                if isinstance(exc, NoPermissionError) and not self._creates:
                    key = self._settings.shard.layout
                    raise CommandError(f"Redis does not let this user read {key}: {NEXT_STEP}") from None
                log.debug("shards.unknown", error=name_error(exc))
            await wait_for(stop, POLL_SECONDS)

    async def _read(self) -> Layout:
        """Return the layout. Raises NoPermissionError if this user may not read it, and RedisError."""
        try:
            layout = await self._ask(self._server, self._settings)
            if self._creates and len(self.shards) > layout.known:  # Redis has lost its keys
                layout = await change_layout(self._server, self._settings, known=len(self.shards))
        except NoPermissionError as exc:  # perhaps only without the right to write
            layout = await read_layout(self._server, self._settings)
            self._report_denial(exc, can_read=True)
        return layout

    def _adopt(self, layout: Layout) -> None:
        """Follow a layout: start what its new shards need."""
        if layout.used != self.layout.used or not self._has_read:
            self._report(layout)
        self.layout, self._has_read = layout, True
        for shard in layout.shards(self._settings.stream)[len(self.shards) :]:
            self.shards.append(shard)
            for start in self._starts:
                start(shard)

    def _report_denial(self, exc: NoPermissionError, *, can_read: bool) -> None:
        self._denial, self._denied_until = exc, time.monotonic() + DENIED_SECONDS
        if self._throttle.admit("denied") is None:
            return
        effect = "until then it uses the shards that it knows" if can_read else "until then it reads no entry"
        report = log.warning if can_read else log.error
        report("shards.denied", key=self._settings.shard.layout, what=f"{NEXT_STEP}; {effect}")

    def _report(self, layout: Layout) -> None:
        if self._has_read:
            log.info("shards.changed", shards=layout.used, before=self.layout.used)
        if "shards" in self._settings.model_fields_set and self._settings.shards != layout.used:
            log.warning(
                "shards.differ",
                setting=self._settings.shards,
                in_use=layout.used,
                what="ACKSTREAM_SHARDS counts for the first start only: change the number with `ackstream shards set`",
            )


@asynccontextmanager
async def watch_shards(
    server: Redis, settings: StreamSettings, stop: asyncio.Event, *, creates: bool = True
) -> AsyncIterator[ShardWatch]:
    """Follow the layout in the background until ``stop`` or the end of the block."""
    watch = ShardWatch(server, settings, creates=creates, reads=True)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watch.run(stop))
        try:
            yield watch
        finally:
            await cancel_and_wait([task])
