"""Judges the memory of the Redis server by the limit at which ingest stops sending entries to it. No I/O."""

from collections.abc import Iterator, Mapping
from typing import Any

from console.doctor.finding import Finding, make_finding
from console.format import format_size
from ingest.append.server_checks import HIGH_MEMORY
from worker.settings import WorkerSettings

WARN_MEMORY = 0.85
MACHINE_SHARE = 0.9


def judge_memory(
    info: Mapping[str, Any], settings: Mapping[str, str] | None, worker: WorkerSettings | None
) -> Iterator[Finding]:
    """Yield a finding about a missing or too high limit, about memory that is nearly used up, or a too long stream."""
    limit, machine = info.get("maxmemory", 0), info.get("total_system_memory", 0)
    if not limit:
        if settings is not None:
            yield make_finding("redis.no-limit")
        return
    if machine and limit > MACHINE_SHARE * machine:
        yield make_finding("redis.limit-too-high", limit=format_size(limit), memory=format_size(machine))
    alone = worker if info.get("redis_mode") != "cluster" else None  # a cluster spreads the stream over its nodes
    if alone is not None and alone.retention_ms is not None and (alone.retention_bytes or 0) >= limit:
        yield make_finding(
            "settings.contradictory",
            name="ACKSTREAM_RETENTION_BYTES",
            value=format_size(alone.retention_bytes or 0),
            other="maxmemory of Redis",
            limit=format_size(limit),
            consequence="Redis is full before the stream is trimmed for its size, and new entries go to the spool",
        )
    share = (info["used_memory"] - info.get("mem_not_counted_for_evict", 0)) / limit
    if share >= HIGH_MEMORY:
        yield make_finding("redis.memory-full", share=f"{share:.0%}")
    elif share >= WARN_MEMORY:
        yield make_finding("redis.memory-high", share=f"{share:.0%}")
