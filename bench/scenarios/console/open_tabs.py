"""Measure what an open console costs ingest and a worker.

``python -m bench.scenarios.console.open_tabs`` runs ingest and a worker with ``store`` and ``log`` on the measured
core. First it sends RATE webhooks a second and measures the CPU time of both. Then it sends none, and measures it in
turn without a console and with one that TABS browser tabs look at. So the difference is the console's, and does not
vanish in the noise of the load. It prints the difference as a share of the CPU time under load.
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
from statistics import median

import orjson

from bench.load.open_tabs import Tabs, open_tabs
from bench.load.steady_rate import run_load
from bench.rig import servers
from bench.rig.databases import Sqlite
from bench.rig.processes import HOST, Cores, await_port, environment, program, run_process, thread_cpu_seconds
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
    worker_admin = find_free_port()
    with ExitStack() as stack:
        url, _ = stack.enter_context(servers.valkey(folder / "valkey"))
        common = {"redis_url": url, "database_url": Sqlite(folder).fresh()}
        ingest = stack.enter_context(servers.ackstream(url, cores.measured, folder, signatures="off"))
        settings = environment(**common, data=str(folder / "worker"), admin_port=str(worker_admin))
        worker = stack.enter_context(
            run_process(program("ackstream"), "worker", core=cores.measured, folder=folder, environment=settings)
        )
        await_port(worker_admin, worker)
        scrape = f"http://{HOST}:{ingest.admin_port},http://{HOST}:{worker_admin}"
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


class CpuMeter:
    """Measures the CPU time of ingest and worker in microseconds a second."""

    def __init__(self, site: Site, seconds: float) -> None:
        self._site = site
        self._seconds = seconds
        self.microseconds: dict[str, list[float]] = {}

    def measure(self, name: str) -> float:
        """Measure both processes, and return the sum."""
        time.sleep(SETTLE_SECONDS)
        pids = {"ingest": self._site.ingest.pid, "worker": self._site.worker_pid}
        before, started = {part: thread_cpu_seconds(pid) for part, pid in pids.items()}, time.monotonic()
        time.sleep(self._seconds)
        seconds = time.monotonic() - started
        spent = {part: (thread_cpu_seconds(pid) - before[part]) / seconds * 1e6 for part, pid in pids.items()}
        for part, microseconds in spent.items():
            self.microseconds.setdefault(f"{part} {name}", []).append(microseconds)
        return sum(spent.values())

    def measure_with_console(self) -> float:
        """Measure with a console, whose tabs must all get an update each second."""
        with run_console(self._site) as tabs:
            total = self.measure("with")
            assert min(tabs.close()) >= self._seconds - 1, "a tab got no updates"
        return total


def compare(folder: Path, cores: Cores, rounds: int, seconds: float) -> list[Ratio]:
    """Return the ratios of the CPU time under load with what a console adds to that without."""
    with run_site(folder, cores) as site:
        meter = CpuMeter(site, seconds)
        with run_load(site.ingest.port, site.ingest.path, RATE, cores.rest, folder) as load:
            meter.measure("loaded")
            answered = len(load.samples())
        assert answered >= RATE * seconds, f"only {answered} answers: the load was not steady"
        measure_in_turn(rounds, {"without": lambda: meter.measure("without"), "with": meter.measure_with_console})
    ratios = []
    for part in ("ingest", "worker"):
        (loaded,) = meter.microseconds[f"{part} loaded"]
        pairs = zip(meter.microseconds[f"{part} with"], meter.microseconds[f"{part} without"], strict=True)
        ours = [loaded + spent - idle for spent, idle in pairs]
        what = f"{part} with {TABS} tabs"
        ratios.append(Ratio(what, "without", "CPU us/s", LIMIT, ours, [loaded] * rounds, is_cost=True))
    return ratios


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
        ratios = compare(Path(name), cores, arguments.rounds, arguments.seconds)
    print(table(ratios))
    for ratio in ratios:
        added = [(each - 1) * 100 for each in ratio.each]
        print(f"{ratio.what}: {median(added):+.2f} % ({min(added):+.2f} to {max(added):+.2f})")


if __name__ == "__main__":
    main()
