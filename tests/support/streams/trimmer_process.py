"""A process that trims one stream into an archive, until it is killed.

`python -m tests.support.streams.trimmer_process URL STREAM FOLDER`.

Its files are small and its lease is short, so that a kill falls into every moment.
"""

import asyncio
import sys
from pathlib import Path

from stream.keys import Shard
from stream.redis.client import client
from tests.support.streams.retention import OLD
from worker.retention.archive_writer import Archive
from worker.retention.pages import raw_ranges
from worker.retention.policy import RetentionPolicy
from worker.retention.trimmer import Trimmer

LEASE_MS = 300
FILE_BYTES = 150_000


async def trim(url: str, stream: str, folder: str) -> None:
    retention = RetentionPolicy(OLD.age_ms, OLD.most_bytes, together=True)
    archive = Archive(Path(folder), file_bytes=FILE_BYTES, rest_seconds=0)
    archive.prepare()
    async with raw_ranges(client(url)) as server:
        trimmer = Trimmer(server, Shard(stream), retention, archive, poll_seconds=0.01, lease_ms=LEASE_MS)
        await trimmer.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(trim(*sys.argv[1:]))
