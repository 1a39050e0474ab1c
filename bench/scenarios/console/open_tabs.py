"""Measure what an open console costs ingest and a worker.

``python -m bench.scenarios.console.open_tabs`` runs ingest and a worker with ``store`` and ``log`` on the measured
core, and sends RATE webhooks a second. In turn it measures their CPU time without a console, and with one that TABS
browser tabs look at. It prints the ratios.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.load.open_tabs import Tabs, open_tabs
from bench.load.steady_rate import run_load
from bench.rig import servers
from bench.rig.databases import Sqlite
from bench.rig.processes import HOST, Cores, await_port, cpu_seconds, environment, program, run_process
from bench.rig.ratio import Ratio, measure_in_turn, table
from console.up.valkey import find_free_port

RATE = 1000.0
TABS = 50
LIMIT = 1.05
SETTLE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Site:
    """The processes whose CPU time counts, and the settings of a console that looks at them."""

    ingest: servers.Server
    worker_pid: int
    settings: Mapping[str, str]
    folder: Path
    cores: Cores


@contextmanager
def run_site(folder: Path, cores: Cores) -> Iterator[Site]:
    """Run Valkey, ingest and a worker."""
    ingest_admin, worker_admin = find_free_port(), find_free_port()
    with ExitStack() as stack:
        url, _ = stack.enter_context(servers.valkey(folder / "valkey"))
        common = {"redis_url": url, "database_url": Sqlite(folder).fresh()}
        ingest = stack.enter_context(
            servers.ackstream(url, cores.measured, folder, signatures="off", admin_port=str(ingest_admin))
        )
        settings = environment(**common, data=str(folder / "worker"), admin_port=str(worker_admin))
        worker = stack.enter_context(
            run_process(program("ackstream"), "worker", core=cores.measured, folder=folder, environment=settings)
        )
        await_port(worker_admin, worker)
        scrape = f"http://{HOST}:{ingest_admin},http://{HOST}:{worker_admin}"
        console = {**common, "data": str(folder / "console"), "console_scrape": scrape}
        yield Site(ingest, worker.pid, console, folder, cores)


@contextmanager
def run_console(site: Site) -> Iterator[Tabs]:
    """Run a console with open tabs."""
    port = find_free_port()
    settings = environment(**site.settings, console_port=str(port))
    run = program("ackstream"), "console"
    with run_process(*run, core=site.cores.rest, folder=site.folder, environment=settings) as child:
        await_port(port, child)
        made = subprocess.run((*run, "link", "--json"), env=settings, check=True, capture_output=True)
        link = str(orjson.loads(made.stdout)["url"])
        with open_tabs(f"http://{HOST}:{port}", link, TABS, site.cores.rest, site.folder) as tabs:
            yield tabs


class CpuCosts:
    """The CPU time of ingest and worker for each webhook, without and with a console."""

    def __init__(self, site: Site, seconds: float) -> None:
        self._site = site
        self._seconds = seconds
        self.microseconds: dict[str, list[float]] = {}

    def measure(self, name: str) -> float:
        """Measure both processes, and return the sum of their costs."""
        time.sleep(SETTLE_SECONDS)
        pids = {"ingest": self._site.ingest.pid, "worker": self._site.worker_pid}
        before, started = {part: cpu_seconds(pid) for part, pid in pids.items()}, time.monotonic()
        time.sleep(self._seconds)
        webhooks = RATE * (time.monotonic() - started)
        costs = {part: (cpu_seconds(pid) - before[part]) / webhooks * 1e6 for part, pid in pids.items()}
        for part, cost in costs.items():
            self.microseconds.setdefault(f"{part} {name}", []).append(cost)
        return sum(costs.values())

    def measure_with_console(self) -> float:
        """Measure with a console, whose tabs must all get an update each second."""
        with run_console(self._site) as tabs:
            total = self.measure("with")
            assert min(tabs.close()) >= self._seconds - 1, "a tab got no updates"
        return total


def compare(folder: Path, cores: Cores, rounds: int, seconds: float) -> list[Ratio]:
    """Return the ratios of the costs with a console to those without."""
    with (
        run_site(folder, cores) as site,
        run_load(site.ingest.port, site.ingest.path, RATE, cores.rest, folder) as load,
    ):
        costs = CpuCosts(site, seconds)
        measure_in_turn(rounds, {"without": lambda: costs.measure("without"), "with": costs.measure_with_console})
        answered = len(load.samples())
    assert answered >= RATE * seconds * rounds * 2, f"only {answered} answers: the load was not steady"
    cpu = costs.microseconds
    return [
        Ratio(
            f"{part} with {TABS} tabs",
            "without",
            "CPU us/webhook",
            LIMIT,
            cpu[f"{part} with"],
            cpu[f"{part} without"],
            is_cost=True,
        )
        for part in ("ingest", "worker")
    ]


def main() -> None:
    """Run the comparison of the command line."""
    parser = argparse.ArgumentParser(prog="bench.scenarios.console.open_tabs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=12.0)
    arguments = parser.parse_args()
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("bench: this system cannot pin a process to a core, so results would not be comparable")
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as name:
        print(table(compare(Path(name), cores, arguments.rounds, arguments.seconds)))


if __name__ == "__main__":
    main()
