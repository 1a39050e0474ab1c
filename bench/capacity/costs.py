"""Measure the costs of a status and write them to the table of ``ackstream plan``.

``python -m bench.capacity.costs`` measures all parts. Each part has its date, versions and machine in the file, because
they can be measured one by one: sizes are the same on a busy machine, CPU times need a quiet one.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from bench.capacity import cpu_costs, database_costs, redis_costs
from bench.rig.processes import Cores
from bench.rig.results import describe_source, write_json
from console.plan.costs import FILE

Measure = Callable[[Path, Cores, int], dict[str, Any]]
PARTS: dict[str, Measure] = {
    "ingest": cpu_costs.measure_ingest,
    "store": partial(cpu_costs.measure_workers, cpu_costs.STORES),
    "functions": partial(cpu_costs.measure_workers, cpu_costs.FUNCTIONS),
    "redis": lambda folder, cores, _rounds: redis_costs.measure(folder, cores),
    "postgresql": lambda folder, _cores, _rounds: database_costs.measure_postgresql(folder),
    "writes": lambda folder, _cores, _rounds: database_costs.measure_writes(folder),
    "sqlite": lambda folder, _cores, _rounds: database_costs.measure_sqlite(folder),
}


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
        source = describe_source(cores, arguments.rounds)
        table[name] = {"source": source, **costs}
        write_json(arguments.file, {part: table[part] for part in PARTS if part in table})


if __name__ == "__main__":
    main()
