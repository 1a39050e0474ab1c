"""Compare the figures of ``ackstream plan`` with three installations that run here.

``python -m bench.capacity.check`` prints planned and measured figures and writes them to the data of docs/capacity.md.
The costs were measured with other sizes of payloads.
"""

import argparse
import asyncio
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from math import ceil
from pathlib import Path
from statistics import median

from bench.capacity import redis_costs
from bench.capacity.cpu_costs import FUNCTIONS, measure_backlog
from bench.capacity.database_costs import read
from bench.load.closed_loop import run_load
from bench.rig import consumption, servers
from bench.rig.databases import postgresql
from bench.rig.processes import ROOT, Cores, environment, program, run_process
from bench.rig.results import describe_source, write_json
from console.plan.capacity import BASE_BYTES, BUSY, DAY_SECONDS, Capacity
from console.plan.costs import read_costs
from console.plan.workload import Workload
from worker.store.database import open_engine

FILE = ROOT / "deploy" / "docs" / "data" / "capacity.json"
SECONDS = 3.0

HOUR_SECONDS = 3600
RATE = 20_000
"""The statuses a second for which processes are counted."""
INSTALLATIONS = {
    "480 bytes, store": Workload(RATE, HOUR_SECONDS, size=480),
    "1,100 bytes, store and 1 function": Workload(RATE, HOUR_SECONDS, size=1_100, groups=2),
    "2,500 bytes, store and 2 functions": Workload(RATE, HOUR_SECONDS, size=2_500, groups=3),
}

Row = dict[str, str | float]
Figure = tuple[str, float, float]


def measure(folder: Path, cores: Cores, load: Workload, number: int) -> dict[str, float]:
    """Return the bytes of ``number`` statuses in Redis and PostgreSQL, and the CPU microseconds of a status."""
    with ExitStack() as stack:
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey", "everysec"))
        database = stack.enter_context(postgresql(folder))
        server = stack.enter_context(servers.ackstream(url, cores.measured, folder, signatures="required"))
        loads = [
            run_load(server.port, server.path, SECONDS, server.pid, folder, size=load.size, waves=True).server_us
            for _ in range(3)
        ]
        consumption.empty(valkey)
        before = redis_costs.used_bytes(valkey)
        database_url = database.fresh()
        size = asyncio.run(_database_bytes(database_url))
        groups = ["store", *(f"other{place}" for place in range(1, load.groups))]
        handlers = ["store", *(f"{name}={FUNCTIONS['one_event']}" for name in groups[1:])]
        arguments = [argument for handler in handlers for argument in ("--handler", handler)]
        settings = environment(redis_url=url, database_url=database_url, data=str(folder / "data"))
        command = program("ackstream"), "worker", *arguments
        with run_process(*command, core=cores.measured, folder=folder, environment=settings) as child:
            worker_us = measure_backlog(valkey, [child], groups, number, load.size)
        return {
            "redis_bytes": redis_costs.used_bytes(valkey) - before,
            "database_bytes": asyncio.run(_database_bytes(database_url)) - size,
            "ingest_us": median(loads),
            "worker_us": worker_us,
        }


async def _database_bytes(url: str) -> int:
    engine = open_engine(url, read_only=True)
    try:
        return await read(engine, "SELECT pg_database_size(current_database())")
    finally:
        await engine.dispose()


def compare(load: Workload, measured: Mapping[str, float], number: int) -> Iterator[Figure]:
    """Yield the name, the planned and the measured value of each figure. Processes are counted for RATE."""
    costs = read_costs()
    stored = Capacity(replace(load, rate=number / HOUR_SECONDS), costs)
    yield "redis_bytes", stored.redis_bytes - BASE_BYTES, measured["redis_bytes"]
    yield "database_bytes", stored.database_bytes_per_day * HOUR_SECONDS / DAY_SECONDS, measured["database_bytes"]
    plan = Capacity(load, costs)
    yield "ingest_us", plan.ingest_us, measured["ingest_us"]
    yield "worker_us", plan.worker_us, measured["worker_us"]
    busy_us = measured["worker_us"] + plan.database_us
    yield "ingest_processes", plan.ingest_processes, ceil(RATE * measured["ingest_us"] / 1e6 / BUSY)
    yield "worker_processes", plan.worker_processes, ceil(RATE * busy_us / 1e6 / BUSY)


def main() -> None:
    """Measure the installations, write the figures, and print them."""
    parser = argparse.ArgumentParser(description="Compare `ackstream plan` with three installations.")
    parser.add_argument("--entries", type=int, default=30_000, help="statuses of each (default 30000)")
    arguments = parser.parse_args()
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    rows: list[Row] = []
    for name, load in INSTALLATIONS.items():
        with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as folder:
            measured = measure(Path(folder), cores, load, arguments.entries)
        for figure, planned, value in compare(load, measured, arguments.entries):
            row: Row = {
                "installation": name,
                "figure": figure,
                "planned": round(planned, 1),
                "measured": round(value, 1),
            }
            row["ratio"] = round(planned / value, 3)
            rows.append(row)
            print(*row.values(), sep="\t", flush=True)
    write_json(FILE, {"source": describe_source(cores, 1), "rows": rows})


if __name__ == "__main__":
    main()
