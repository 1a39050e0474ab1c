"""Simulate planned installations at rates that no machine here reaches, and check the model against real processes.

``python -m bench.capacity.simulation`` computes the delays at 1,000 to 1,000,000 statuses a second. It also runs one
and two workers, and compares the model with them. Both are data of docs/capacity.md.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.capacity import redis_costs
from bench.capacity.queueing import Service, serve, simulate
from bench.handlers import noop
from bench.rig import consumption, servers
from bench.rig.processes import ROOT, Cores, environment, program, run_process
from bench.rig.results import describe_source, write_json
from console.plan.capacity import Capacity
from console.plan.costs import read_costs
from console.plan.workload import Workload
from stream.keys import Shard

FILE = ROOT / "deploy" / "docs" / "data" / "simulation.json"
RATES = (1_000, 10_000, 100_000, 1_000_000)
STATUSES = 100_000
RETENTION_SECONDS = 1800
LONGEST_SECONDS = 5.0
ROUND_TRIP_SECONDS = 0.0003
BATCH = 100
BACKLOG = 15_000
GROUP = "waiting"
PAYLOAD_BYTES = 560
COUNTS = {1: "one worker", 2: "two workers"}


def simulate_rates() -> Iterator[dict[str, float]]:
    """Yield the delays of a planned installation at each rate."""
    for rate in RATES:
        plan = Capacity(Workload(rate, RETENTION_SECONDS), read_costs())
        delays = simulate(plan, min(STATUSES / rate, LONGEST_SECONDS), ROUND_TRIP_SECONDS)
        yield {
            "rate": rate,
            "ingest_processes": plan.ingest_processes,
            "shards": plan.shards,
            "worker_processes": plan.worker_processes,
            **{f"answer_p{percent}_ms": delays.answer_ms(percent) for percent in (50, 99)},
            **{f"row_p{percent}_ms": delays.row_ms(percent) for percent in (50, 99)},
        }


def check_workers(folder: Path, cores: Cores) -> Iterator[dict[str, Any]]:
    """Yield the events a second that one and two workers take from a backlog, if their handler waits for each batch."""
    each_seconds = read_costs().workers["list_us"].at(PAYLOAD_BYTES) / 1e6
    with servers.valkey(folder / "valkey", "everysec") as (url, valkey):
        handler = f"{GROUP}={noop.__name__}:wait#batch={BATCH}"
        settings = environment(redis_url=url, data=str(folder / "data"), batch_entries=str(BATCH))
        command = program("ackstream"), "worker", "--handler", handler
        for count, name in COUNTS.items():
            consumption.empty(valkey)
            redis_costs.append(valkey, BACKLOG * count, PAYLOAD_BYTES)
            with ExitStack() as stack:
                children = [
                    stack.enter_context(run_process(*command, core=cores.measured, folder=folder, environment=settings))
                    for _ in range(count)
                ]
                consumption.await_groups(valkey, Shard().stream, [GROUP], children[0], consumers=count)
                started, before = time.perf_counter(), consumption.count_settled(valkey, Shard().stream, GROUP)
                consumption.await_settled(valkey, Shard().stream, [GROUP], children[0])
                seconds = time.perf_counter() - started
            number = BACKLOG * count - before
            service = Service(noop.WAIT_SECONDS, each_seconds, BATCH)
            yield {
                "figure": f"events/s of {name} whose handler waits 20 ms for {BATCH} events",
                "model": number / serve([0.0] * number, service, count)[-1],
                "measured": number / seconds,
            }


def main() -> None:
    """Simulate, check, print and write."""
    parser = argparse.ArgumentParser(description="Simulate planned installations, and check the model.")
    parser.parse_args()
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as folder:
        checks = list(check_workers(Path(folder), cores))
    record = {"source": describe_source(cores, 1), "rates": list(simulate_rates()), "checks": checks}
    write_json(FILE, record)
    print(FILE.read_text())


if __name__ == "__main__":
    main()
