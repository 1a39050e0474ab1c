"""Compare the CPU time that a request costs two ingest processes on one port with that of one process.

``python -m bench.scenarios.overhead.processes``. All ingest processes run on one core, so that the ratio shows the cost
of sharing the work, and nothing else. It includes the supervisor. With few connections, each of two processes gathers
half as many entries for a group commit, so that an entry costs more.
"""

import argparse
import os
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.load.closed_loop import run_load
from bench.rig import servers
from bench.rig.consumption import empty
from bench.rig.processes import Cores, family_cpu_seconds
from bench.rig.ratio import Ratio, measure_in_turn, table
from bench.scenarios.ingest import COST
from stream.keys import Shard

LIMIT = 1.10
CONNECTIONS = (64, 256)
COUNTS = (1, 2)


def compare(folder: Path, cores: Cores, rounds: int, seconds: float) -> tuple[list[Ratio], list[str]]:
    """Return the ratios, and the share of the busier process in each load of two."""
    shares: list[str] = []
    with ExitStack() as stack:
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey"))
        running = {
            count: stack.enter_context(
                servers.ackstream(url, cores.measured, folder, signatures="required", processes=str(count))
            )
            for count in COUNTS
        }

        def cost_us(count: int, connections: int) -> float:
            empty(valkey)
            server = running[count]
            before = family_cpu_seconds(server.pid)
            result = run_load(server.port, server.path, seconds, server.pid, folder, connections=connections)
            spent = [after - before[pid] for pid, after in family_cpu_seconds(server.pid).items()]
            if count > 1:
                shares.append(f"{max(spent) / sum(spent):.0%}")
            entries = valkey.xlen(Shard().stream)
            assert entries == result.answered, f"{result.answered} answers of 200, {entries} entries"
            return result.server_us

        measures = {
            f"{count} at {connections}": partial(cost_us, count, connections)
            for connections in CONNECTIONS
            for count in COUNTS
        }
        costs = measure_in_turn(rounds, measures)
    return [
        Ratio(
            f"two ingest processes, {connections} connections",
            "one",
            COST,
            LIMIT,
            costs[f"2 at {connections}"],
            costs[f"1 at {connections}"],
            is_cost=True,
        )
        for connections in CONNECTIONS
    ], shares


def main() -> None:
    """Measure, and print the ratio."""
    parser = argparse.ArgumentParser(description="Measure the cost of a request in two processes.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of each load")
    arguments = parser.parse_args()
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as name:
        ratios, shares = compare(Path(name), cores, arguments.rounds, arguments.seconds)
    print(table(ratios))
    print(f"share of the busier process in each load of two: {', '.join(shares)}")


if __name__ == "__main__":
    main()
