"""Measure the costs of a status and write them to the table of ``ackstream plan``.

``python -m bench.capacity.costs`` measures all parts. Each part has its date, versions and machine in the file, because
they can be measured one by one: sizes are the same on a busy machine, CPU times need a quiet one.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from bench.capacity import cpu_costs, database_costs, redis_costs
from bench.rig.processes import Cores
from bench.rig.results import describe_source, write_json
from bench.rig.statuses import signed_entries, sized_payloads
from console.plan.costs import FILE
from worker.events.vonage import parse

Measure = Callable[[Path, Cores, int], dict[str, Any]]
PARTS: dict[str, Measure] = {
    "ingest": cpu_costs.measure_ingest,
    "workers": cpu_costs.measure_workers,
    "redis": lambda folder, cores, _rounds: redis_costs.measure(folder, cores),
    "postgresql": lambda folder, _cores, _rounds: database_costs.measure_postgresql(folder),
    "writes": lambda folder, _cores, _rounds: database_costs.measure_writes(folder),
    "sqlite": lambda folder, _cores, _rounds: database_costs.measure_sqlite(folder),
}


REFERENCE_STATUSES = 2_000
REFERENCE_ROUNDS = 15


def measure_reference() -> float:
    """Return the CPU microseconds in which this machine parses a status: two machines or moments compare by it."""
    entries = list(signed_entries(sized_payloads(REFERENCE_STATUSES, cpu_costs.SIZE)))
    rounds = []
    for _ in range(REFERENCE_ROUNDS):
        started = time.process_time()
        for entry in entries:
            parse(entry, "0/1-1")
        rounds.append((time.process_time() - started) / REFERENCE_STATUSES * 1e6)
    return median(rounds)


def main() -> None:
    """Measure the named parts, or all, and replace them in the file."""
    parser = argparse.ArgumentParser(description="Measure the cost of a status in each part.")
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"parts to measure (default: {' '.join(PARTS)})")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the CPU times (default 5)")
    parser.add_argument("--file", type=Path, default=FILE, help="file to write")
    arguments = parser.parse_args()
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    table = orjson.loads(arguments.file.read_bytes()) if arguments.file.exists() else {}
    for name in arguments.parts:
        with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as folder:
            costs = PARTS[name](Path(folder), cores, arguments.rounds)
        source = describe_source(cores, arguments.rounds) | {"parse_us": measure_reference()}
        table[name] = {"source": source, **costs}
        write_json(arguments.file, {part: table[part] for part in PARTS if part in table})


if __name__ == "__main__":
    main()
