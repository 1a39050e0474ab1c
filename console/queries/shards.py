"""Show the shards of a stream, and change how many are in use."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.format import NODE_STEP, PARTLY_DONE, format_away
from console.queries.stats import gather_stats
from runtime.errors import CommandError
from stream.keys import Shard
from stream.layout import Layout, change_layout, read_layout
from stream.redis.cluster import AwayShard, find_nodes, is_cluster, is_lost, locate_shards, split_shards
from stream.redis.errors import SlotDown
from stream.settings import StreamSettings
from worker.events.timestamps import iso_time
from worker.group.consumer_group import create_group, read_group_names
from worker.group.group_ref import GroupRef

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class ShardLine:
    """One shard: its entries, and the work of all groups on it."""

    shard: int
    state: str
    """``in use``: ingest appends to it. Else ``draining`` while a group has work left on it, then ``drained``.

    ``away``: its node does not answer, and its numbers are not known.
    """
    entries: int | None = None
    outstanding: int | None = None
    """Unread and pending entries, retries and replays, over all groups."""
    dead: int | None = None
    node: str | None = None
    """The address of the node of a cluster that has the shard; None without a cluster, or if no node has its slot."""


@dataclass(frozen=True, slots=True)
class ShardList:
    """The layout, and a line for each known shard."""

    layout: Layout
    lines: Sequence[ShardLine]
    away: Sequence[AwayShard]
    """The shards of a cluster that do not answer."""

    def as_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        changed_at = iso_time(self.layout.changed_ms) if self.layout.changed_ms else None
        lines = [asdict(line) for line in self.lines]
        return {"in_use": self.layout.used, "known": self.layout.known, "changed_at": changed_at, "shards": lines}


async def list_shards(server: Redis, settings: StreamSettings) -> ShardList:
    """Return all known shards.

    Raises RedisError if no shard answers. Raises CommandError if shard 0 does not answer, which has the number of
    shards, and ACKSTREAM_SHARDS is not set.
    """
    layout = await _find_layout(server, settings)
    shards, away = await split_shards(server, layout.shards(settings.stream))
    nodes = await find_nodes(server, [shard.stream for shard in shards])
    lines = [ShardLine(each.shard, "away", node=each.node) for each in away]
    for shard in shards:
        stats = await gather_stats(server, [shard])
        groups = stats["groups"].values()
        outstanding = sum(group["outstanding"] for group in groups)
        state = "in use" if shard.number < layout.used else "draining" if outstanding else "drained"
        dead = sum(group["dead"] for group in groups)
        node = nodes[shard.stream] or None
        lines.append(ShardLine(shard.number, state, stats["shards"][0]["length"], outstanding, dead, node))
    return ShardList(layout, sorted(lines, key=lambda line: line.shard), away)


async def find_shards(server: Redis, settings: StreamSettings) -> tuple[Sequence[Shard], Sequence[AwayShard]]:
    """Return the known shards that answer, and those of a cluster that do not. Raises as ``list_shards``."""
    return await split_shards(server, (await _find_layout(server, settings)).shards(settings.stream))


async def _find_layout(server: Redis, settings: StreamSettings) -> Layout:
    """Return the layout; that of ACKSTREAM_SHARDS while the node of a cluster that has shard 0 is away."""
    try:
        return await read_layout(server, settings)
    except RedisError as exc:
        if not (is_cluster(server) and is_lost(exc)):
            raise
        if "shards" not in settings.model_fields_set:
            if isinstance(exc, SlotDown):
                raise
            node = format_away(await locate_shards(server, {settings.shard: exc}))
            step = "start it, or set ACKSTREAM_SHARDS to the number of shards to see the others"
            raise CommandError(f"{node}, and shard 0 has the number of shards: {step}") from exc
        return Layout(settings.shards, settings.shards)


def report_gaps(away: Sequence[AwayShard]) -> None:
    """Raise CommandError, which names the nodes, if a command has shown only a part. Call it after the output."""
    if away:
        guess = "" if away[0].shard else "; no pause is known, and the number of shards is that of ACKSTREAM_SHARDS"
        raise CommandError(f"{format_away(away)}: the output is that of the other shards{guess}; {NODE_STEP}")


def refuse_gaps(away: Sequence[AwayShard]) -> None:
    """Raise CommandError, which names the nodes, if a command cannot do its work without these shards."""
    if away:
        raise CommandError(f"{format_away(away)}: this needs all shards, and nothing was done; {NODE_STEP}")


async def read_answering(
    server: Redis, settings: StreamSettings, question: Callable[[Redis, Sequence[Shard]], Awaitable[Answer]]
) -> tuple[Answer, Sequence[AwayShard]]:
    """Return the answer of the shards that answer, and the other shards. Raises as ``list_shards``.

    If a node is lost after it was asked for its shards, the others answer the question again.
    """
    shards, away = await find_shards(server, settings)
    try:
        return await question(server, shards), away
    except RedisError as exc:
        if not (is_cluster(server) and is_lost(exc)):
            raise
    shards, away = await find_shards(server, settings)
    return await question(server, shards), away


@asynccontextmanager
async def name_lost(server: Redis, shards: Sequence[Shard]) -> AsyncIterator[None]:
    """Raise CommandError, which names the nodes, instead of RedisError if a node of a cluster is lost in the block."""
    try:
        yield
    except RedisError as exc:
        if is_cluster(server) and is_lost(exc) and (away := (await split_shards(server, shards))[1]):
            raise CommandError(f"{format_away(away)}: {PARTLY_DONE}; {NODE_STEP}") from exc
        raise


async def ask_shard(server: Redis, shard: Shard, question: Callable[[Redis, Shard], Awaitable[Answer]]) -> Answer:
    """Return the answer of one shard. Raises CommandError, which names the node of a cluster that is away."""
    try:
        return await question(server, shard)
    except RedisError as exc:
        if not (is_cluster(server) and is_lost(exc)) or isinstance(exc, SlotDown):
            raise
        raise CommandError(f"{format_away(await locate_shards(server, {shard: exc}))}: {NODE_STEP}") from exc


async def set_shards(server: Redis, settings: StreamSettings, number: int) -> tuple[Layout, Layout]:
    """Change how many shards are in use; return the layout before and after.

    First every group is registered on the new shards, so that no entry is trimmed there before its workers have come.
    Raises CommandError before any change if a shard is away, and RedisError.
    """
    before = await _find_layout(server, settings)
    every = Layout(number, max(number, before.known)).shards(settings.stream)
    refuse_gaps((await split_shards(server, every))[1])
    async with name_lost(server, every):
        names = {name for shard in before.shards(settings.stream) for name in await read_group_names(server, shard)}
        for shard in Layout(number, number).shards(settings.stream)[before.known :]:
            for name in sorted(names):
                await create_group(GroupRef(server, shard, name))
        return before, await change_layout(server, settings, number)
