"""Checks the consumer groups: without a worker, paused, of other programs, or further behind than the retention."""

from collections.abc import Iterator, Sequence

from redis.asyncio import Redis

from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from console.format import format_age
from console.queries.groups import GroupState, list_groups
from stream.keys import Shard
from stream.layout import read_layout
from stream.redis.cluster import split_shards
from stream.settings import TracedSettings
from worker.dispatch.pause import PauseReason, describe_reason
from worker.retention.settings import RetentionSettings

REPLAY = "replay/"
"""Groups with this start are the positions of replays."""


async def check_groups(server: Redis, setup: Setup) -> Sequence[Finding]:
    """Return the findings about the groups. It watches heartbeats for some seconds. Raises RedisError."""
    layout = await read_layout(server, setup.stream)
    shards, away = await split_shards(server, layout.shards(setup.stream.stream))
    groups = await list_groups(server, shards, lambda _seconds: None)
    settings = setup.worker or setup.console
    retention = settings if isinstance(settings, RetentionSettings) else None
    findings = [finding for group in groups for finding in judge_group(group, retention)]
    if "shards" in setup.stream.model_fields_set and layout.changed_ms and layout.used != setup.stream.shards:
        cause = f"the stream has {layout.used} in Redis, which `ackstream shards set` changes"
        findings.append(make_finding("settings.without-effect", name="ACKSTREAM_SHARDS", cause=cause))
    if (setup.ingest or setup.worker) and "message" not in (_order_of(setup.ingest), _order_of(setup.worker)):
        owned = [group.standing.name for group in groups if await _has_owner(server, shards, group)]
        findings += [make_finding("group.order", group=name) for name in owned]
    if not away and not any(group.standing.registered for group in groups):
        findings.append(make_finding("group.none", stream=shards[0].stream))
    return findings


def _order_of(settings: TracedSettings | None) -> str | None:
    return None if settings is None else settings.order


async def _has_owner(server: Redis, shards: Sequence[Shard], group: GroupState) -> bool:
    """Whether a live worker owns a shard of the group."""
    owners = [await server.get(shard.owner(group.standing.name)) for shard in shards]
    return any(owner in group.liveness.beats for owner in owners)


def judge_group(group: GroupState, retention: RetentionSettings | None) -> Iterator[Finding]:
    """Yield the findings about one group."""
    name = group.standing.name
    if not group.standing.registered:
        if not name.startswith(REPLAY):
            yield make_finding("group.foreign", group=name)
        return
    if not group.standing.exists:
        yield make_finding("group.missing", group=name)
    elif not group.liveness.alive:
        yield make_finding("group.no-worker", group=name)
    if group.pause is not None:
        if group.pause.reason == PauseReason.OPERATOR:
            yield make_finding("group.paused-by-hand", group=name)
        else:
            yield make_finding("group.paused", group=name, meaning=describe_reason(group.pause.reason))
    if retention is not None and retention.retention_ms is not None:
        seconds, limit = group.oldest_seconds or 0, retention.retention_ms / 1000
        if seconds > limit / 2:
            kind = "group.past-retention" if seconds > limit else "group.behind"
            yield make_finding(kind, group=name, age=format_age(seconds), retention=retention.retention)
