"""The plan for people, in at most 80 columns."""

from collections.abc import Iterator
from math import ceil

from console.plan.capacity import BUSY, MAXMEMORY_FACTOR, Capacity
from console.plan.costs import read_table
from stream.keys import MOST_SHARDS

UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
STEP = 1000
LEAST_CORES = 0.01
SHORTEST_RETENTION = 60
"""Seconds: ages are whole minutes, hours or days."""


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
    total = capacity.database_bytes
    end = "no oldest age: grows without end" if total is None else f"{format_bytes(total)} in all"
    needs = {
        "ingest": _processes(capacity.ingest_processes, plan["ingest_cores"]),
        "Redis CPU": f"{_count(capacity.shards, 'shard')}, {_cores(plan['redis_cores'])}",
        "Redis memory": f"{format_bytes(capacity.redis_bytes)} of data: maxmemory "
        f"{format_bytes(capacity.redis_bytes * MAXMEMORY_FACTOR)}, disk {format_bytes(capacity.redis_disk_bytes)}",
        "workers": _processes(capacity.worker_processes, plan["worker_cores"]),
        "database disk": f"{format_bytes(capacity.database_bytes_per_day)} a day ({end}), "
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
    yield from _describe_shards(capacity)
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


def _describe_shards(capacity: Capacity) -> Iterator[str]:
    """Yield sentences if the shards are too few, or if the memory needs more of them than the CPU."""
    needed, cpu_shards = capacity.needed_shards, capacity.cpu_shards
    if cpu_shards > MOST_SHARDS or capacity.find_retention(MOST_SHARDS) < SHORTEST_RETENTION:
        yield (
            f"This needs {needed:,} shards, and a stream has at most {MOST_SHARDS}: divide your applications between "
            "several streams (ACKSTREAM_STREAM), each with its own ingest and workers."
        )
        return
    if capacity.shards < needed:
        shorter = ", or a shorter --retention" if capacity.shards >= cpu_shards else ""
        yield f"{_count(capacity.shards, 'shard')} cannot hold or serve this: use {min(needed, MOST_SHARDS)}{shorter}."
    if needed > MOST_SHARDS:
        longest = format_retention(capacity.find_retention(MOST_SHARDS))
        yield f"A stream has at most {MOST_SHARDS} shards. They hold the statuses of {longest}: shorten --retention."
    fitting = capacity.find_retention(cpu_shards)
    if SHORTEST_RETENTION <= fitting < capacity.workload.retention_seconds:
        yield (
            f"Memory needs these shards. With a --retention of {format_retention(fitting)}, and ACKSTREAM_ARCHIVE for "
            f"the rest, {_count(cpu_shards, 'shard')} would do."
        )


def format_retention(seconds: float) -> str:
    """Return the longest age of at most this time that ``--retention`` takes, as ten or more of the largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600)):
        if seconds >= 10 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds // SHORTEST_RETENTION)}m"


def _processes(number: int, cores: object) -> str:
    return f"{_count(number, 'process', 'processes')}, {_cores(cores)}"


def _count(number: int, name: str, plural: str = "") -> str:
    return f"{number:,} {name if number == 1 else plural or f'{name}s'}"


def _cores(cores: object) -> str:
    busy = float(str(cores))
    return f"{format_number(busy)} cores busy" if busy >= LEAST_CORES else f"under {LEAST_CORES} cores busy"
