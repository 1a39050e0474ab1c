"""Watching a replay, and saying how far it is."""

import asyncio
import time
from collections.abc import Iterator

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


async def watch(server: Redis, shard: Shard, replay_id: str, console: Console) -> ReplayProgress:
    """Show a progress bar until the replay no longer runs, or until no worker has copied it for ALONE_SECONDS."""
    known = await find(server, shard, replay_id)
    columns = (TextColumn("copying"), BarColumn(), MofNCompleteColumn(), SpeedColumn(), TimeRemainingColumn())
    alone_since = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        shown = bar.add_task("", total=known.replay.total, completed=known.done)
        while known.state is State.RUNNING:
            if await server.exists(shard.copying(known.replay.group, replay_id)):
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > ALONE_SECONDS:
                break
            await asyncio.sleep(WATCH_SECONDS)
            known = await find(server, shard, replay_id)
            bar.update(shown, completed=known.done)
    return known


def describe_progress(known: ReplayProgress) -> Iterator[str]:
    """Yield the sentences about a replay that is no longer watched."""
    replay = known.replay
    copied = f"{known.done:,} of {replay.total:,} copied"
    yield f"replay {replay.id} is {known.state}: {copied} for group {replay.group!r}"
    if known.state is State.RUNNING:
        yield "no worker of the group copies it; it goes on when a worker runs" + (
            " that has ACKSTREAM_ARCHIVE" if replay.place is Place.ARCHIVE else ""
        )
    if known.error and known.state is State.FAILED:
        yield f"{known.error}; then: ackstream replay resume {replay.id}"
