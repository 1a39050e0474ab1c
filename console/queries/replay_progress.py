"""Watch a replay and describe its progress."""

import asyncio
import time
from collections.abc import Iterator, Sequence

from redis.asyncio import Redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from console.queries.replays import find
from console.simulate.progress import SpeedColumn
from stream.keys import Shard
from worker.replay.job import Place, State
from worker.replay.job import Progress as ReplayProgress

WATCH_SECONDS = 0.25
ALONE_SECONDS = 10.0


async def watch(server: Redis, shards: Sequence[Shard], replay_id: str, console: Console) -> ReplayProgress:
    """Show a progress bar until the replay ends or stops, or until no worker has copied it for ALONE_SECONDS."""
    progress = await find(server, shards, replay_id)
    leases = [shard.copying(progress.replay.group, replay_id) for shard in shards]
    columns = (TextColumn("copying"), BarColumn(), MofNCompleteColumn(), SpeedColumn(), TimeRemainingColumn())
    alone_since = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=progress.replay.total, completed=progress.done)
        while progress.state is State.RUNNING:
            if any([await server.exists(lease) for lease in leases]):
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > ALONE_SECONDS:
                break
            await asyncio.sleep(WATCH_SECONDS)
            progress = await find(server, shards, replay_id)
            bar.update(task, completed=progress.done)
    return progress


def describe_progress(progress: ReplayProgress) -> Iterator[str]:
    """Yield sentences about the state of a replay that the command no longer watches."""
    replay = progress.replay
    copied = f"{progress.done:,} of {replay.total:,} copied"
    yield f"replay {replay.id} is {progress.state}: {copied} for group {replay.group!r}"
    if progress.state is State.RUNNING:
        yield "no worker of the group copies it; it continues when a worker runs" + (
            " that has ACKSTREAM_ARCHIVE" if replay.place is Place.ARCHIVE else ""
        )
    if progress.error and progress.state is State.FAILED:
        yield f"{progress.error}; then: ackstream replay resume {replay.id}"
