"""Snapshots of the console, made for tests."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from console.web.metrics.distribution import Distribution
from console.web.sampling.snapshot import (
    INGEST,
    WORKER,
    GroupSample,
    IngestSample,
    RedisSample,
    Snapshot,
    Totals,
    WorkerSample,
)

BOUNDS = (0.001, 0.01, 0.1)


def group(name: str = "g", **changes: Any) -> GroupSample:
    """Return a healthy group without work."""
    sample = GroupSample(
        name=name,
        registered=True,
        unread=0,
        pending=0,
        retries=0,
        replays=0,
        dead=0,
        oldest_seconds=None,
        paused=None,
        settled=0,
        alive=1,
    )
    return replace(sample, **changes)


def moment(at: float, *, totals: Mapping[str, Any] | None = None, **changes: Any) -> Snapshot:
    """Return a healthy moment with one process of each kind, read at this moment, and the group ``g``."""
    redis = RedisSample(read_at=at, server_id="a", stored=0, entries=0, durable=True)
    snapshot = Snapshot(
        taken_at=at,
        started_at=at,
        redis=redis,
        groups={"g": group()},
        ingest=(IngestSample("ingest:9464", at, scraped_at=at, redis_durable=True, spool_limit=1000),),
        workers=(WorkerSample("worker:9464", at, scraped_at=at),),
        silent=(),
        is_scraping=True,
        database=None,
        totals=Totals(),
    )
    snapshot = replace(snapshot, **changes)
    spans = {part: (0.0, at) for part, samples in ((INGEST, snapshot.ingest), (WORKER, snapshot.workers)) if samples}
    return replace(snapshot, totals=replace(Totals(at=at, redis_at=at, spans=spans), **(totals or {})))


def counted(at: float, number: int, *, stored: int | None = None, **changes: Any) -> Snapshot:
    """Return a moment at which this many webhooks were answered 200 since the start, and handled by ``g``."""
    return moment(
        at,
        totals={
            "counts": {("answers", "200"): float(number), ("handled", "g"): float(number)},
            "redis_counts": {
                ("stored", ""): float(number if stored is None else stored),
                ("settled", "g"): float(number),
            },
            "distributions": {("answer", ""): Distribution(BOUNDS, (0.0, float(number), 0.0, 0.0), number * 0.005)},
        },
        **changes,
    )
