"""Compare ingest's answer times during a trim with those just before and after."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis

from bench.load.steady_rate import SteadyLoad, p99_ms, run_load
from bench.rig import servers
from bench.rig.consumption import empty
from bench.rig.figures import Figure
from bench.rig.payloads import payloads
from bench.rig.processes import Cores, environment, program, run_process
from bench.rig.results import Result
from bench.rig.servers import Server
from bench.rig.statuses import entries
from stream.keys import Shard

RATE = 1000
TARGET_MS = 10.0
GROUP = "log"
HOLDS = "holds"
LONGEST_SECONDS = 300.0
BLOCK = 1000

# KEYS: stream. ARGV: the first entry's ms, how many fields each has, then their names and values.
FILL = """
local each = ARGV[2] * 2
for i = 0, (#ARGV - 2) / each - 1 do
  redis.call('XADD', KEYS[1], (ARGV[1] + i) .. '-0', unpack(ARGV, 3 + i * each, 2 + (i + 1) * each))
end
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """The 99th percentiles of one run, in ms, and how long trimming took."""

    quiet_ms: float
    trimming_ms: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The increase of the 99th percentile of ingest's answers during a trim, run by run."""

    what: str
    trimmed: int
    pairs: list[Pair]

    @property
    def each_ms(self) -> list[float]:
        """The difference of each run."""
        return [pair.trimming_ms - pair.quiet_ms for pair in self.pairs]

    @property
    def median_ms(self) -> float:
        """The median of the runs' differences."""
        return median(self.each_ms)

    def __str__(self) -> str:
        quiet, trimming = (
            median(pair.quiet_ms for pair in self.pairs),
            median(pair.trimming_ms for pair in self.pairs),
        )
        seconds = median(pair.seconds for pair in self.pairs)
        return (
            f"{self.what}: {self.trimmed:,} entries in {seconds:.1f} s; ingest's p99 at {RATE:,} req/s {quiet:.1f} ms "
            f"without and {trimming:.1f} ms with it, difference {self.median_ms:+.1f} ms "
            f"({min(self.each_ms):+.1f} to {max(self.each_ms):+.1f})"
        )


class Rig:
    """A stream of old entries that one worker trims once no group holds them back."""

    def __init__(self, url: str, valkey: Redis, ingest: Server, cores: Cores, folder: Path, trimmed: int) -> None:
        self._url = url
        self._valkey = valkey
        self._ingest = ingest
        self._cores = cores
        self._folder = folder
        self._trimmed = trimmed
        self._fill = valkey.register_script(FILL)
        self._shard = Shard()

    def pair(self, seconds: float, archive: Path | None) -> Pair:
        """Load ingest, trim during the load, and return the percentiles."""
        self._prepare()
        settings = {"archive": str(archive)} if archive else {}
        with (
            self._worker(**settings),
            run_load(self._ingest.port, self._ingest.path, RATE, self._cores.rest, self._folder) as load,
        ):
            time.sleep(seconds)
            began, ended = self._trim()
            time.sleep(seconds)
            return self._evaluate(load, began, ended)

    def _prepare(self) -> None:
        """Fill the stream; one group has settled all of it, another one nothing."""
        empty(self._valkey)
        fields = [entry.to_fields() for entry in entries(payloads(BLOCK))]
        flat = [part for item in fields for pair in item.items() for part in pair]
        for first in range(1, self._trimmed + 1, BLOCK):
            self._fill(keys=[self._shard.stream], args=[first, len(fields[0]), *flat])
        self._valkey.xgroup_create(self._shard.stream, GROUP, id="$")
        self._valkey.xgroup_create(self._shard.stream, HOLDS, id="0")

    @contextmanager
    def _worker(self, **settings: str) -> Iterator[None]:
        variables = environment(redis_url=self._url, data=str(self._folder / "data"), **settings)
        command = program("ackstream"), "worker", "--handler", GROUP
        with run_process(*command, core=self._cores.rest, folder=self._folder, environment=variables) as child:
            os.sched_setaffinity(child.pid, {self._cores.measured, self._cores.rest})
            while not self._valkey.hlen(self._shard.alive(GROUP)):
                assert child.poll() is None, "the worker has ended"
                time.sleep(0.05)
            yield

    def _trim(self) -> tuple[float, float]:
        """Trim the stream; return the times of start and end."""
        self._valkey.xgroup_destroy(self._shard.stream, HOLDS)
        self._await(first=2)
        began = time.monotonic()
        self._await(first=self._trimmed + 1)
        return began, time.monotonic()

    def _await(self, first: int) -> None:
        """Return when the first entry of the stream is this one or a later one."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while True:
            first_entry: Any = self._valkey.xrange(self._shard.stream, count=1)
            if first_entry and int(first_entry[0][0].partition(b"-")[0]) >= first:
                return
            assert time.monotonic() < deadline, "nothing is trimmed"
            time.sleep(0.02)

    def _evaluate(self, load: SteadyLoad, began: float, ended: float) -> Pair:
        samples = load.samples()
        trimming = [sample for sample in samples if began <= sample[0] < ended]
        quiet = [sample for sample in samples if not began - 0.2 <= sample[0] < ended + 0.2]
        return Pair(p99_ms(quiet), p99_ms(trimming), ended - began)


def compare(folder: Path, cores: Cores, rounds: int, seconds: float, trimmed: int) -> Result:
    """Return the increase with and without an archive."""
    with ExitStack() as stack:
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey"))
        ingest = stack.enter_context(servers.ackstream(url, cores.measured, folder, signatures="off"))
        rig = Rig(url, valkey, ingest, cores, folder, trimmed)
        pairs: dict[str, list[Pair]] = {"trim": [], "archive and trim": []}
        for number in range(rounds):
            for name, runs in list(pairs.items())[:: 1 if number % 2 == 0 else -1]:
                runs.append(rig.pair(seconds, None if name == "trim" else folder / f"archive-{number}"))
    differences = [Difference(name, trimmed, runs) for name, runs in pairs.items()]
    return Result(
        notes=list(map(str, differences)),
        figures=[
            Figure(f"{each.what}: increase of ingest's p99", "ms", TARGET_MS, each.each_ms) for each in differences
        ],
    )
