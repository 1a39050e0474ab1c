"""The picture of the flow: provider, ingest, spool, Redis and groups, each with its state and newest numbers."""

from dataclasses import asdict
from typing import Literal

from console.web.route import Json
from console.web.sampling.findings import Series
from console.web.sampling.rates import Rates
from console.web.sampling.snapshot import Snapshot

Tone = Literal["ok", "warn", "bad", "off"]

OK_ANSWER = "200"


def describe_flow(latest: Snapshot, rates: Rates, day: Series) -> Json:
    """Return the parts of the flow. ``day`` has the spool's size over the last day."""
    return {
        "provider": _describe_provider(rates),
        "ingest": _describe_ingest(latest, rates),
        "spool": _describe_spool(latest, day),
        "redis": _describe_redis(latest),
    }


def _describe_provider(rates: Rates) -> Json:
    accepted = (rates.answers or {}).get(OK_ANSWER, 0.0)
    verified = sum(rates.verified.values())
    return {
        "per_second": rates.webhooks if rates.answers is not None else rates.stored,
        "accounts": sum(rate > 0 for rate in rates.verified.values()),
        "signed_share": min(verified / accepted, 1.0) if accepted else None,
    }


def _describe_ingest(latest: Snapshot, rates: Rates) -> Json:
    up = sum(process.is_up for process in latest.ingest)
    faults = [process.redis_fault for process in latest.ingest if process.is_up and process.redis_fault]
    away = [process.away.since for process in latest.ingest if process.away]
    state: tuple[Tone, str]
    if not latest.is_scraping:
        state = "off", "Unknown"
    elif not up:
        state = "bad", "No answer"
    elif faults or (latest.spooled or 0):
        state = "warn", "Uses the spool"
    elif up < len(latest.ingest):
        state = "warn", "Partly away"
    else:
        state = "ok", "Ready"
    return {
        "tone": state[0],
        "state": state[1],
        "p50_seconds": rates.answer.quantile(0.5),
        "p99_seconds": rates.answer.quantile(0.99),
        "up": up,
        "processes": len(latest.ingest),
        "is_known": latest.is_scraping,
        "fault": faults[0] if faults else None,
        "away_since": min(away, default=None),
    }


def _describe_spool(latest: Snapshot, day: Series) -> Json:
    sizes = day.values.get("spooled", ())
    used_at = [at for at, size in zip(day.times, sizes, strict=True) if size] if sizes else []
    limits = [process.spool_limit for process in latest.ingest if process.spool_limit is not None]
    oldest = [process.spool_oldest_seconds for process in latest.ingest if process.spool_entries]
    return {
        "entries": latest.spooled,
        "bytes": sum(process.spool_bytes for process in latest.ingest) if latest.ingest else None,
        "limit_bytes": sum(limits) if limits else None,
        "oldest_seconds": max(oldest, default=None),
        "used_at": used_at[-1] if used_at else None,
        "foreign": sum(process.spool_foreign for process in latest.ingest),
    }


def _describe_redis(latest: Snapshot) -> Json:
    redis = latest.redis
    state: tuple[Tone, str]
    if redis.away is not None:
        state = "bad", "No answer"
    elif redis.away_shards:
        state = "warn", "Partly away"
    elif latest.is_durable is None:
        state = "off", "Unknown"
    else:
        state = ("ok", "On disk") if latest.is_durable else ("warn", "In memory first")
    return {
        "tone": state[0],
        "state": state[1],
        "away_since": redis.away.since if redis.away else None,
        "away_shards": [asdict(each) for each in redis.away_shards],
        "read_at": redis.read_at,
        "entries": redis.entries,
        "kept_seconds": latest.taken_at - redis.oldest_at if redis.oldest_at is not None else None,
        "memory_node": redis.memory_node,
        "memory_share": latest.memory_share,
        "memory_max_bytes": redis.memory_max,
        "memory_used_bytes": redis.memory_used,
        "shortcomings": list(redis.shortcomings),
    }
