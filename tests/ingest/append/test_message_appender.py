"""Order mode on a cluster whose nodes are away."""

import asyncio
from pathlib import Path

from ingest.append.message_appender import MessageAppender
from ingest.append.message_writers import MessageWriters
from ingest.settings import IngestSettings
from ingest.spool.folder import Owner
from ingest.spool.queue import open_spool
from runtime.tasks import cancel_and_wait
from stream.keys import Shard
from stream.layout import Layout
from stream.redis.client import client
from stream.shard_watch import ShardWatch
from tests.support.faults.redis_outages import read_metric
from tests.support.samples.events import body, entry

SHARDS, ENTRIES = 4, 100
URL = "redis+cluster://127.0.0.1:1"


async def test_entries_of_all_shards_that_are_away_share_a_batch_of_the_spool(shard: Shard, tmp_path: Path) -> None:
    """Each batch costs an fsync, so their number must not grow with the shards."""
    settings = IngestSettings.load(redis_url=URL, stream=shard.name, order="message", signatures="off")
    async with client(URL) as server, open_spool(tmp_path, Owner(shard.stream, URL), 2**20) as spool:
        watch = ShardWatch(server, settings)
        watch.layout = Layout(SHARDS, SHARDS)
        watch.shards = watch.layout.shards(shard.name)
        appender = MessageAppender(MessageWriters(server, watch, settings), watch, spool, 10.0)
        running = asyncio.create_task(appender.run())
        batches = read_metric("spool_seconds_count")

        await asyncio.gather(*(appender.append(entry(body(message_uuid=f"m-{n}"))) for n in range(ENTRIES)))

        assert read_metric("spool_seconds_count") - batches == 1
        assert spool.held.entries == ENTRIES
        await appender.finish()
        assert appender.not_ready_reason == "stopping"
        await cancel_and_wait([running])
