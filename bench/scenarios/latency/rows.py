"""Measure the time from a webhook to its row in the database, at fixed rates.

The clock starts when the request is due, and ends when a reader outside sees the row: it looks every LOOK_SECONDS, so a
time is up to that too long. All processes read one clock.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import product
from pathlib import Path
from time import monotonic

from redis import Redis

from bench.load.steady_rate import Sample, percentile_ms, run_load
from bench.rig import consumption, servers
from bench.rig.databases import Databases, Sqlite, postgresql
from bench.rig.figures import Figure
from bench.rig.payloads import payloads
from bench.rig.processes import Cores, environment, program, run_process
from bench.rig.results import Result
from bench.rig.servers import Server
from bench.scenarios.latency.stored_rows import LONGEST_SECONDS, NewRows, open_rows, watch
from stream.keys import Shard

GROUP = "store"
WARM_UP_SECONDS = 1.0
LAST_SECONDS = 0.5
"""The end of a load is not counted: while it ends, nobody looks at the rows."""
LIMITS_MS: dict[int, tuple[float | None, float]] = {2000: (15.0, 100.0), 5000: (None, 300.0)}
"""By rate: the limits of p50 and p99."""


@dataclass(slots=True)
class RowTimes:
    """The percentiles of one rate and database, round by round."""

    what: str
    limits_ms: tuple[float | None, float]
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def add(self, seconds: list[float]) -> None:
        """Add the times of a round."""
        self.p50_ms.append(percentile_ms(seconds, 50))
        self.p99_ms.append(percentile_ms(seconds, 99))
        print(f"{self.what}: p50 {self.p50_ms[-1]:.1f} ms, p99 {self.p99_ms[-1]:.1f} ms", file=sys.stderr, flush=True)

    def figures(self) -> list[Figure]:
        """Return both percentiles."""
        each = zip(("p50", "p99"), self.limits_ms, (self.p50_ms, self.p99_ms), strict=True)
        return [Figure(f"{self.what}: {name}", "ms", limit, values) for name, limit, values in each]


class Installation:
    """Ingest, Valkey, and for each load a new worker with an empty database."""

    def __init__(self, url: str, valkey: Redis, ingest: Server, cores: Cores, folder: Path) -> None:
        self._url = url
        self._valkey = valkey
        self._ingest = ingest
        self._cores = cores
        self._folder = folder

    def measure(self, databases: Databases, rate: int, seconds: float) -> list[float]:
        """Return the seconds until the row of each webhook, after the warm-up."""
        url, whole = databases.fresh(), WARM_UP_SECONDS + seconds + LAST_SECONDS
        bodies = payloads(round(rate * (whole + 1)))
        consumption.empty(self._valkey)
        settings = environment(redis_url=self._url, database_url=url, data=str(self._folder / "data"))
        command = program("ackstream"), "worker", "--handler", GROUP
        core, stream = self._cores.measured, Shard().stream
        with (
            run_process(*command, core=core, folder=self._folder, environment=settings) as worker,
            open_rows(databases, url) as rows,
        ):
            consumption.await_groups(self._valkey, stream, [GROUP], worker, consumers=1)
            samples, seen = self._load(rows, rate, whole, len(bodies))
        events = {sample: sha256(body).hexdigest() for sample, body in zip(samples, bodies, strict=False)}
        assert len(events) == len(seen), f"{len(events)} answers of 200, {len(seen)} rows"
        counted = [sample for sample in samples if 0 <= sample.due - samples[0].due - WARM_UP_SECONDS < seconds]
        return [seen[events[sample]] - sample.due for sample in counted]

    def _load(self, rows: NewRows, rate: int, seconds: float, statuses: int) -> tuple[list[Sample], dict[str, float]]:
        """Send webhooks, and return their samples and the time of each row."""
        seen: dict[str, float] = {}
        port, path, core = self._ingest.port, self._ingest.path, self._cores.rest
        with run_load(port, path, rate, core, self._folder, statuses=statuses) as load:
            watch(rows, monotonic() + seconds, seen)
            samples = load.samples()
        deadline = monotonic() + LONGEST_SECONDS
        while len(seen) < len(samples) and monotonic() < deadline:
            watch(rows, monotonic() + 1, seen)
        return samples, seen


def compare(folder: Path, cores: Cores, rounds: int, seconds: float, fsync: str) -> Result:
    """Return the percentiles on both databases at both rates."""
    with ExitStack() as stack:
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey", fsync))
        ingest = stack.enter_context(servers.ackstream(url, cores.measured, folder, signatures="required"))
        installation = Installation(url, valkey, ingest, cores, folder)
        kinds: tuple[Databases, ...] = (stack.enter_context(postgresql(folder)), Sqlite(folder))
        times = {
            (kind, rate): RowTimes(f"{kind.kind}, {rate:,} webhooks/s", limits)
            for rate, limits in LIMITS_MS.items()
            for kind in kinds
        }
        for _, (kind, rate) in product(range(rounds), times):
            times[kind, rate].add(installation.measure(kind, rate, seconds))
    note = (
        f"appendfsync {fsync}, one ingest and one worker process on one core; the load, Valkey, PostgreSQL and the "
        f"reader on the other; {seconds:g} s a round"
    )
    return Result(
        notes=[note],
        figures=[figure for each in times.values() for figure in each.figures()],
    )
