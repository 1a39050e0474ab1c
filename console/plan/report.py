"""The plan for people, in at most 80 columns."""

from collections.abc import Iterator
from math import ceil

from console.format import format_age
from console.plan.capacity import BUSY, MAXMEMORY_FACTOR, Capacity
from console.plan.costs import read_table
from stream.keys import MOST_SHARDS

UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
STEP = 1000
LEAST_CORES = 0.01


def format_bytes(number: float) -> str:
    """Return bytes in decimal units, which disks and clouds are sold by, with two digits or more."""
    value, place = float(number), 0
    while value >= STEP and place < len(UNITS) - 1:
        value, place = value / STEP, place + 1
    return f"{value:.1f} {UNITS[place]}" if value < 10 and place else f"{value:,.0f} {UNITS[place]}"  # noqa: PLR2004 - one decimal below ten


def format_number(number: float) -> str:
    """Return a number with three digits, without an exponent."""
    digits = float(f"{number:.3g}")
    return f"{digits:,.0f}" if digits >= 10 or digits == int(digits) else f"{digits:g}"  # noqa: PLR2004 - decimals below ten


def make_rows(capacity: Capacity) -> Iterator[dict[str, object]]:
    """Yield a row for each part: its needs, and the rate at which it is full."""
    plan = capacity.as_json()
    total = plan["database_bytes"]
    kept = f"{format_bytes(capacity.database_bytes or 0)} in all" if total else "no oldest age: grows without end"
    needs = {
        "ingest": _processes(capacity.ingest_processes, plan["ingest_cores"]),
        "Redis CPU": f"{_count(capacity.shards, 'shard')}, {_cores(plan['redis_cores'])}",
        "Redis memory": f"{format_bytes(capacity.redis_bytes)} of data: maxmemory "
        f"{format_bytes(capacity.redis_bytes * MAXMEMORY_FACTOR)}, disk {format_bytes(capacity.redis_disk_bytes)}",
        "workers": _processes(capacity.worker_processes, plan["worker_cores"]),
        "database disk": f"{format_bytes(capacity.database_bytes_per_day)} a day ({kept}), "
        f"{format_number(ceil(capacity.database_iops))} IOPS, {_cores(plan['database_cores'])}",
    }
    for limit in capacity.limits():
        yield {
            "part": limit.part,
            "use": f"{capacity.workload.peak_rate / limit.full_at:.0%}",
            "full at": f"{format_number(limit.full_at)}/s",
            "needs": needs[limit.part],
        }


def make_notes(capacity: Capacity) -> Iterator[str]:
    """Yield sentences: the part that is full first, too few shards, and the source of the figures."""
    load, first = capacity.workload, capacity.first_limit()
    yield f"First full: {first.part}, at {format_number(first.full_at)} statuses a second. Add {first.add}."
    if capacity.shards < capacity.needed_shards:
        yield (
            f"{_count(capacity.shards, 'shard')} cannot hold or serve this: use {capacity.needed_shards}, or a "
            "shorter --retention."
        )
    if capacity.shards > MOST_SHARDS:
        longest = format_age(capacity.find_retention(MOST_SHARDS))
        yield f"A stream has at most {MOST_SHARDS} shards. They hold the statuses of {longest}: shorten --retention."
    if (fitting := capacity.find_retention(capacity.cpu_shards)) < load.retention_seconds:
        yield (
            f"Memory needs these shards. With a retention of {format_age(fitting)}, and ACKSTREAM_ARCHIVE for the "
            f"rest, {_count(capacity.cpu_shards, 'shard')} would do."
        )
    if load.tables_seconds is None:
        yield "Set ACKSTREAM_TABLES_RETENTION, and plan with --tables-retention, to limit the database."
    index_bytes = format_bytes(capacity.index_bytes_per_day)
    yield f"PostgreSQL should hold its indexes in memory: they grow by {index_bytes} a day."
    source = read_table()["store"]["source"]
    factor = "" if load.factor == 1 else f", times {load.factor:g}"
    yield (
        f"CPU times were measured on {source['machine']}, {source['date']}{factor}; --factor adapts them. A process "
        f"is planned for {BUSY:.0%} of a core. Run one more of each, so that one may stop."
    )


def _processes(number: int, cores: object) -> str:
    return f"{_count(number, 'process', 'processes')}, {_cores(cores)}"


def _count(number: int, name: str, plural: str = "") -> str:
    return f"{number:,} {name if number == 1 else plural or f'{name}s'}"


def _cores(cores: object) -> str:
    busy = float(str(cores))
    return f"{format_number(busy)} cores busy" if busy >= LEAST_CORES else f"under {LEAST_CORES} cores busy"
