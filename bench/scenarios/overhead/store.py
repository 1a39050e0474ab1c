"""Compare ``store`` with its SQL statements sent by SQLAlchemy Core alone, and with COPY of its rows.

``python -m bench.scenarios.overhead.store`` writes the same events in each way, each time into a new database. One
process writes, on the measured core; PostgreSQL runs on the other core. The aim is a rate of 0.9 of the statements.
"""

import argparse
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.baselines.sql_store import COPY, STATEMENTS, STORE, ask
from bench.rig.databases import Databases, Sqlite, postgresql, rows
from bench.rig.processes import Cores, cpu_seconds
from bench.rig.ratio import measure_in_turn
from bench.scenarios.worker import BARE_BATCH, run_bare

NAMES = {STATEMENTS: "its SQL alone", COPY: "COPY of its rows"}


class Way:
    """One way to write the events into one kind of database."""

    def __init__(self, way: str, databases: Databases, child: subprocess.Popen[bytes], number: int) -> None:
        self._way = way
        self._databases = databases
        self._child = child
        self._number = number
        self.costs_us: list[float] = []
        """The CPU microseconds of process and server for each event, one value for each measured rate."""

    def rate(self) -> float:
        """Return the events per second."""
        url = self._databases.fresh()
        before = self._cpu_seconds()
        rate = ask(self._child, self._way, url)
        self.costs_us.append((self._cpu_seconds() - before) / self._number * 1e6)
        assert rows(url)[0] == self._number, "not all events were written"
        return rate

    def _cpu_seconds(self) -> float:
        return cpu_seconds(self._child.pid) + self._databases.cpu_seconds()


def compare(folder: Path, cores: Cores, rounds: int, number: int) -> None:
    """Print the ratios of rates and costs."""
    with ExitStack() as stack:
        ways: dict[str, Way] = {}
        kinds: dict[Databases, Sequence[str]] = {
            Sqlite(folder): (STATEMENTS,),
            stack.enter_context(postgresql(folder)): (STATEMENTS, COPY),
        }
        for kind, others in kinds.items():
            child = stack.enter_context(run_bare(kind, number, cores.measured, folder))
            ways |= {f"{way} on {kind.kind}": Way(way, kind, child, number) for way in (STORE, *others)}
        rates = measure_in_turn(rounds, {name: way.rate for name, way in ways.items()})
    for kind, others in kinds.items():
        ours = f"{STORE} on {kind.kind}"
        for theirs in others:
            other = f"{theirs} on {kind.kind}"
            costs = ways[ours].costs_us, ways[other].costs_us
            print(
                f"{ours} to {NAMES[theirs]}: events/s {_describe(rates[ours], rates[other])}, "
                f"CPU {_describe(*costs)}, {median(costs[0]):.1f} and {median(costs[1]):.1f} us an event"
            )


def _describe(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the median and the range of the ratios of each round."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description="Compare store with its SQL alone and with COPY.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--entries", type=int, default=40_000, help="events of each round")
    arguments = parser.parse_args()
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    print(f"{arguments.entries:,} events, in batches of {BARE_BATCH:,}; the first tenth does not count for events/s")
    with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as name:
        compare(Path(name), cores, arguments.rounds, arguments.entries)


if __name__ == "__main__":
    main()
