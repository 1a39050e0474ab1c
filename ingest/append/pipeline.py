"""Wires the parts that store entries: group commit, Redis writer, spool, drainer and monitor."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.append.connection import EntrySink
from ingest.append.drainer import Drainer
from ingest.append.group_commit import Appender
from ingest.append.message_appender import AnyAppender, MessageAppender
from ingest.append.message_writers import MessageWriters
from ingest.append.redis_writer import RedisWriter
from ingest.append.server_checks import TOO_WEAK, UNKNOWN, ServerChecks, ServerNotReady
from ingest.append.shard_turns import MessageShards
from ingest.append.shard_writers import ShardWriters, Writer
from ingest.metrics import SPOOL_LIMIT, SPOOL_OLDEST
from ingest.settings import IngestSettings, Level
from ingest.spool.folder import Owner
from ingest.spool.queue import Spool, open_spool
from runtime.errors import CommandError
from runtime.tasks import cancel_and_wait
from stream.redis.client import name_error, redact_url
from stream.redis.cluster import is_cluster
from stream.redis.errors import CLUSTER, DENIED, NO_CLUSTER, UNSUPPORTED, WRONG_TYPE
from stream.server_id import ensure_server_id
from stream.shard_watch import ShardWatch

if TYPE_CHECKING:
    from runtime.tracing.tracer import Tracing

START_SECONDS = 3.0
POLL_SECONDS = 1.0
DURABILITY_SECONDS = 60.0


@asynccontextmanager
async def open_pipeline(
    server: Redis, settings: IngestSettings, tracing: "Tracing | None" = None
) -> AsyncIterator[AnyAppender]:
    """Yield an appender that works until the block ends. At the end all waiting entries are first stored or refused.

    Redis is probed before the block starts. Raises CommandError if the spool cannot be opened, or if the spool is empty
    and Redis cannot be used.
    """
    watch = ShardWatch(server, settings)
    writer = _make_writer(server, watch, settings)
    SPOOL_LIMIT.set(settings.spool_bytes)
    owner = Owner(settings.shard.stream, redact_url(settings.redis_url))
    async with open_spool(settings.data, owner, settings.spool_bytes) as spool:
        drainer = Drainer(writer, spool, partial(ensure_server_id, server, settings.shard), tracing)
        try:
            await _try_at_start(writer, drainer, settings.ack)
            if spool.is_empty:
                _require_usable(writer, settings)
            appender = _make_appender(writer, watch, spool, settings.ack_budget_ms / 1000)
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(appender.run(), name="appender"),
                    tasks.create_task(drainer.run(), name="drainer"),
                    tasks.create_task(_monitor(writer, watch, spool), name="monitor"),
                ]
                if isinstance(writer, ShardWriters):
                    running.append(tasks.create_task(writer.run(), name="shards"))
                try:
                    yield appender
                    await appender.finish()
                finally:
                    await cancel_and_wait(running)
        finally:
            await writer.close()


def _make_writer(server: Redis, watch: ShardWatch, settings: IngestSettings) -> Writer:
    is_ordered = settings.order == "message"
    if is_cluster(server):
        return (MessageWriters if is_ordered else ShardWriters)(server, watch, settings)
    turns = MessageShards(watch) if is_ordered else None
    return RedisWriter(server, watch, ServerChecks(server, settings.ack), turns=turns)


def _make_appender(writer: Writer, watch: ShardWatch, spool: Spool, budget_seconds: float) -> AnyAppender:
    if isinstance(writer, MessageWriters):
        return MessageAppender(writer, watch, spool, budget_seconds)
    return Appender(writer, spool, budget_seconds)


async def _try_at_start(writer: Writer, drainer: Drainer, level: Level) -> None:
    """Probe once. With ``fsync`` probe for up to START_SECONDS, because the server may be starting at the same time."""

    async def feed(connection: EntrySink) -> None:
        await connection.append((), START_SECONDS)
        await drainer.greet(connection)

    deadline = time.monotonic() + START_SECONDS
    await writer.probe(feed, START_SECONDS)
    while level == "fsync" and writer.fault is not None and writer.fault.passing and time.monotonic() < deadline:
        await writer.probe(feed, START_SECONDS)
    if isinstance(writer, ShardWriters):
        await writer.open_others(START_SECONDS)


def _require_usable(writer: Writer, settings: IngestSettings) -> None:
    """Raise CommandError if Redis cannot accept entries until an operator acts; with ``fsync`` also if it is away."""
    fault, error, url = writer.fault, writer.error, redact_url(settings.redis_url)
    if fault is None or error is None:
        return
    detail = error.detail if isinstance(error, ServerNotReady) else name_error(error)
    if fault is UNSUPPORTED:
        raise CommandError(detail)
    if fault in {DENIED, WRONG_TYPE, CLUSTER, NO_CLUSTER}:
        raise CommandError(f"Redis at {url} cannot be used ({detail}). {fault.sentence}")
    if settings.ack != "fsync":
        return
    if fault is not TOO_WEAK:
        raise CommandError(
            f"ACKSTREAM_ACK=fsync has to check the settings of Redis, and {url} does not answer "
            f"({detail}): start it first, or set ACKSTREAM_ACK=stream"
        )
    if detail == UNKNOWN:
        raise CommandError(
            "ACKSTREAM_ACK=fsync has to check the settings of Redis, and this user may not read them: "
            "allow it CONFIG GET (+config|get), or set ACKSTREAM_ACK=stream"
        )
    raise CommandError(f"ACKSTREAM_ACK=fsync needs a more durable Redis: {detail}. {fault.next_step.capitalize()}")


async def _monitor(writer: Writer, watch: ShardWatch, spool: Spool) -> None:
    """Check spool, layout and memory every second, and the server's settings every minute, until cancelled."""
    settings_due = time.monotonic() + DURABILITY_SECONDS
    while True:
        await asyncio.sleep(POLL_SECONDS)
        await spool.refresh()
        oldest_ms = spool.held.oldest_ms
        SPOOL_OLDEST.set(0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000))
        writer.remind(spool.held.entries)
        if not writer.is_open:
            continue
        with suppress(RedisError):  # the next append detects that Redis is away
            await watch.refresh()
        is_due = time.monotonic() >= settings_due
        await writer.check(fully=is_due)
        if is_due:
            settings_due = time.monotonic() + DURABILITY_SECONDS
