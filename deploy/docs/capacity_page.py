"""The page about capacity: the cost of a status in each part, the part that is full first, and ``ackstream plan``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from console.plan.capacity import DAY_SECONDS, Capacity
from console.plan.costs import SizeCurve, read_costs, read_table
from console.plan.report import format_bytes, format_number
from console.plan.workload import Workload
from deploy.docs.markdown import page, table

DATA = Path(__file__).parent / "data"
RATES = (1_000, 10_000, 100_000, 1_000_000)
SIZES = (400, 560, 800, 1600, 3200, 6400, 12_800)
RETENTION_DAYS, TABLES_DAYS = 7, 90
SHORT_HOURS = 1
BUSY_LOAD = 2

INTRODUCTION = """
`ackstream plan` computes processes, shards, memory and disk for a rate. It asks no server: it multiplies the cost of
one status, which was measured in each part, by your rate.

```sh
ackstream plan --rate 200 --peak 1000 --retention 7d --tables-retention 90d
```

The command prints a line for each part: the share of it that the peak uses, the rate at which it is full, and its
needs. Below it names the part that is full first and the remedy. `--json` has the same for programs
([fields](reference/json.md)). `ackstream plan --help` explains the options.
"""
METHOD = """
## How the figures follow

* **Ingest and workers**: the CPU time of a status times the peak rate. A process is planned for 70 % of a core. A
  worker of `store` also waits while PostgreSQL works, so that time counts for the number of workers.
* **Redis**: the bytes of an entry times rate and retention, and the dedup marks of each group but `store`.
  `maxmemory` is twice that, because a stream may fill half of it by default (`ACKSTREAM_RETENTION_BYTES`). The main
  thread is planned for 60 % of a core, and a shard for 25 GiB: a larger one takes long to load, to copy and to
  rewrite. The append-only file needs up to three times its entries: it doubles before Redis rewrites it, and the new
  file is next to the old one.
* **Database**: the bytes of an event and of a message in tables and indexes. Writes: a commit for each batch, and
  each changed page once a checkpoint (PostgreSQL's defaults: 5 minutes or 1 GB of log). Ids are random, so almost
  every event changes pages of its own. Indexes that do not fit into memory add a read for each of these pages.
* Your own functions, the network and the file systems are not included. Small batches cost more CPU for each status,
  but only while a process has time to spare.

## Your machine

CPU times depend on the machine. `--factor 1.5` multiplies them by 1.5. To find the factor, divide the CPU time per
webhook of a busy ingest process, `process_cpu_seconds_total` by `ackstream_webhooks_total`, by the line *ingest,
signed* below. From a clone of the repository, `python -m bench.capacity.costs` measures all costs on your machine and
writes them into the table of the command (`console/plan/costs.json`).
"""

REMEDIES = """
* **1,000/s**: one process of each kind is enough. A week in memory is the largest part. Keep hours in Redis
  (`ACKSTREAM_RETENTION`) and the rest in the archive (`ACKSTREAM_ARCHIVE`), from which a replay reads too; then one
  shard is enough. Keep the tables only as long as you need them (`ACKSTREAM_TABLES_RETENTION`).
* **10,000/s**: the disk of PostgreSQL is full first. Give it more IOPS, and memory for its indexes. Add an ingest
  process behind the load balancer and a worker.
* **100,000/s**: one PostgreSQL server cannot write the rows of `store`. Use a handler of lists that writes to a store
  on many machines, or that keeps only what you need. Ingest and workers need no more than further processes.
* **1,000,000/s**: the webhooks alone are more than 10 Gbit/s with their headers, so ingest needs several machines.
  Every part before the database grows by adding processes and shards. A stream has at most 64 shards, which hold less
  than an hour of these statuses.
"""


def render() -> str:
    """Return the page."""
    return page("Capacity", INTRODUCTION, METHOD, *_describe_costs(), *_describe_rates(), *_describe_checks())


def _describe_costs() -> Iterator[str]:
    costs, sources = read_costs(), read_table()
    ingest, workers = costs.ingest, costs.workers
    yield "## The cost of a status"
    yield f"CPU time, {_source(sources['ingest'])}, medians of {sources['ingest']['source']['rounds']} rounds:"
    rows = [
        ("ingest, signed", ingest["required_us"], "a webhook, at full load"),
        ("ingest, signatures off", ingest["off_us"], ""),
        ("Redis, append", ingest["append_us"], "its main thread"),
        ("worker, `store` on PostgreSQL", workers["store_postgresql_us"], "an event, in full batches"),
        ("worker, `store` on SQLite", workers["store_sqlite_us"], "with the work of SQLite"),
        ("worker, function of one event", workers["one_event_us"], "the function does nothing"),
        ("worker, function of a list", workers["list_us"], "the same"),
        ("Redis, read and ack for `store`", workers["store_postgresql_redis_us"], "for each group"),
        ("Redis, the same for one event", workers["one_event_redis_us"], "with the dedup mark"),
        ("PostgreSQL", workers["postgresql_us"], "all its processes"),
    ]
    yield table(
        ("part", *(f"µs, {size:,.0f} bytes" for size, _ in ingest["required_us"].points), ""),
        ((name, *(f"{value:.1f}" for _, value in curve.points), note) for name, curve, note in rows),
    )
    memory = [format_bytes(sources[part]["memory_bytes"]) for part in ("ingest", "store")]
    yield f"Resident memory of a process: {memory[0]} for ingest, {memory[1]} for a worker."
    sqlite = SizeCurve.from_json(sources["sqlite"]["event_bytes"])
    curves = (costs.entry, costs.entry_file, costs.event, costs.log, sqlite)
    yield f"Bytes for each status, by the size of its body, {_source(sources['postgresql'])}:"
    yield table(
        ("body", "Redis", "append-only file", "PostgreSQL, event", "its log", "SQLite, event"),
        ((f"{size:,}", *(f"{curve.at(size):,.0f}" for curve in curves)) for size in SIZES),
    )
    yield (
        "The bodies have random texts, which no database packs. PostgreSQL moves rows above 2 KB out of the table.\n\n"
        f"* A message: {costs.message:,.0f} bytes in PostgreSQL, {sources['sqlite']['message_bytes']:,.0f} in "
        "SQLite.\n"
        f"* Indexes, part of these sizes: {costs.event_index:,.0f} bytes an event, {costs.message_index:,.0f} a "
        "message.\n"
        f"* Pages of 8 KiB that an event changes in large tables: {costs.pages:.1f}. A batch of one event: "
        f"{costs.commit_ms:.1f} ms of CPU time, of the worker and PostgreSQL.\n"
        f"* A dedup mark: {costs.mark:.0f} bytes in Redis. A delayed retry has {costs.delayed_extra:.0f} bytes more "
        f"than its entry, a dead letter {costs.dead_letter_extra:.0f}, without the message of the error.\n"
    )


def _source(part: dict[str, Any]) -> str:
    source = part["source"]
    busy = f", {source['load']} other processes wanted its cores" if source["load"] > BUSY_LOAD else ""
    return f"{source['machine']}{busy}, {source['date']}, commit {source['commit']}"


def _describe_rates() -> Iterator[str]:
    yield "## The part that is full first"
    yield (
        f"Statuses of 560 bytes, three a message, `store` alone, {RETENTION_DAYS} days in Redis and {TABLES_DAYS} days "
        "in the tables. *Full first* is the part of this installation that is full first when the rate rises; "
        "PostgreSQL has a disk of 16,000 IOPS."
    )
    rows = []
    for rate in RATES:
        plan = _plan(rate, RETENTION_DAYS * DAY_SECONDS)
        first = plan.first_limit()
        rows.append(
            (
                f"{rate:,}",
                f"{plan.ingest_processes} and {plan.worker_processes}",
                f"{plan.shards:,} with {format_bytes(plan.redis_bytes)}",
                f"{format_bytes(plan.database_bytes_per_day)} a day",
                f"{format_number(plan.database_iops)}",
                f"{first.part}, {format_number(first.full_at)}/s",
            )
        )
    yield table(("rate", "ingest and worker processes", "shards", "PostgreSQL", "its IOPS", "full first"), rows)
    yield REMEDIES
    yield "The same with one hour in Redis and an archive:"
    yield table(
        ("rate", "shards", "Redis", "CPU of Redis, cores"),
        (
            (f"{rate:,}", f"{plan.shards:,}", format_bytes(plan.redis_bytes), format_number(rate * plan.redis_us / 1e6))
            for rate in RATES
            for plan in [_plan(rate, SHORT_HOURS * 3600)]
        ),
    )


def _plan(rate: float, retention_seconds: float) -> Capacity:
    return Capacity(
        Workload(rate, retention_seconds, tables_seconds=TABLES_DAYS * DAY_SECONDS),
        read_costs(),
    )


def _describe_checks() -> Iterator[str]:
    record = json.loads((DATA / "capacity.json").read_text())
    yield "## Planned and measured"
    yield (
        f"Three installations with other bodies than those of the table above, {_source(record)}. Bytes are those of "
        "all statuses, CPU times are microseconds a status; processes are for 20,000 statuses a second. "
        "`python -m bench.capacity.check` measures again."
    )
    yield table(
        ("installation", "figure", "planned", "measured", "ratio"),
        (
            (
                row["installation"],
                row["figure"].replace("_us", " µs").replace("_", " "),
                *(f"{row[name]:,.0f}" for name in ("planned", "measured")),
                f"{row['ratio']:.2f}",
            )
            for row in record["rows"]
        ),
    )
    record = json.loads((DATA / "simulation.json").read_text())
    yield "## Simulation"
    yield (
        "`python -m bench.capacity.simulation` sends random arrivals through the planned processes and shards: a row "
        "of queues whose servers take batches, with the measured times of ingest, group commit, Redis, workers and "
        "PostgreSQL. The disk of PostgreSQL is taken as fast enough. Half an hour in Redis, three statuses a message, "
        "peak equal to the rate:"
    )
    names = ("answer_p50_ms", "answer_p99_ms", "row_p50_ms", "row_p99_ms")
    counts = ("rate", "ingest_processes", "shards", "worker_processes")
    yield table(
        ("rate", "ingest", "shards", "workers", "200: p50 ms", "p99 ms", "row: p50 ms", "p99 ms"),
        ((*(f"{row[name]:,}" for name in counts), *(f"{row[name]:.1f}" for name in names)) for row in record["rates"]),
    )
    yield (
        f"The model next to one and two workers, {_source(record)}. Other programs used the machine too: a worker that "
        "waits for a core is slower than the model."
    )
    yield table(
        ("figure", "model", "measured"),
        ((row["figure"], f"{row['model']:,.4g}", f"{row['measured']:,.4g}") for row in record["checks"]),
    )
