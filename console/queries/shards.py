"""Show the shards of a stream, and change how many are in use."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from redis.asyncio import Redis

from console.queries.stats import gather_stats
from stream.layout import Layout, change_layout, read_layout
from stream.redis.cluster import find_nodes
from stream.settings import StreamSettings
from worker.events.timestamps import iso_time
from worker.group.consumer_group import create_group, read_group_names
from worker.group.group_ref import GroupRef


@dataclass(frozen=True, slots=True)
class ShardLine:
    """One shard: its entries, and the work of all groups on it."""

    shard: int
    state: str
    """``in use``: ingest appends to it. Else ``draining`` while a group has work left on it, then ``drained``."""
    entries: int
    outstanding: int
    """Unread and pending entries, retries and replays, over all groups."""
    dead: int
    node: str | None = None
    """The address of the node of a cluster that has the shard; None without a cluster, or if no node has its slot."""


@dataclass(frozen=True, slots=True)
class ShardList:
    """The layout, and a line for each known shard."""

    layout: Layout
    lines: Sequence[ShardLine]

    def as_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        changed_at = iso_time(self.layout.changed_ms) if self.layout.changed_ms else None
        lines = [asdict(line) for line in self.lines]
        return {"in_use": self.layout.used, "known": self.layout.known, "changed_at": changed_at, "shards": lines}


async def list_shards(server: Redis, settings: StreamSettings) -> ShardList:
    """Return all known shards. Raises RedisError."""
    layout, lines = await read_layout(server, settings), []
    nodes = await find_nodes(server, [shard.stream for shard in layout.shards(settings.stream)])
    for shard in layout.shards(settings.stream):
        stats = await gather_stats(server, [shard])
        groups = stats["groups"].values()
        outstanding = sum(group["outstanding"] for group in groups)
        state = "in use" if shard.number < layout.used else "draining" if outstanding else "drained"
        dead = sum(group["dead"] for group in groups)
        node = nodes[shard.stream] or None
        lines.append(ShardLine(shard.number, state, stats["shards"][0]["length"], outstanding, dead, node))
    return ShardList(layout, lines)


async def set_shards(server: Redis, settings: StreamSettings, number: int) -> tuple[Layout, Layout]:
    """Change how many shards are in use; return the layout before and after. Raises RedisError.

    First every group is registered on the new shards, so that no entry is trimmed there before its workers have come.
    """
    before = await read_layout(server, settings)
    names = {name for shard in before.shards(settings.stream) for name in await read_group_names(server, shard)}
    for shard in Layout(number, number).shards(settings.stream)[before.known :]:
        for name in sorted(names):
            await create_group(GroupRef(server, shard, name))
    return before, await change_layout(server, settings, number)
