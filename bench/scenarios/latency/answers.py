"""Measure ingest's answer times at a fixed rate, in interleaved pairs with bare aiohttp."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

from redis import Redis

from bench.baselines import http_servers
from bench.load.steady_rate import CONNECTIONS, percentile_ms, run_load
from bench.rig import servers
from bench.rig.consumption import empty
from bench.rig.figures import Figure
from bench.rig.processes import Cores
from bench.rig.results import Result
from bench.rig.servers import Server
from stream.keys import Shard

RATE = 2000
WARM_UP_SECONDS = 0.5
STATUSES = 1000
P50_MS, P99_MS, ADDED_P99_MS = 2.0, 8.0, 4.0


class AnswerTimes:
    """The percentiles of the answer times of one server, round by round."""

    def __init__(self, server: Server, cores: Cores, folder: Path) -> None:
        self._server = server
        self._core = cores.rest
        self._folder = folder
        self.p50_ms: list[float] = []
        self.p99_ms: list[float] = []
        self.late_ms: list[float] = []
        """The 99th percentile of the delay of the load generator itself, which the answer times include."""

    def load(self, seconds: float) -> int:
        """Put the load on the server for some seconds after the warm-up. Return how many requests it answered."""
        path = self._server.path
        with run_load(self._server.port, path, RATE, self._core, self._folder, statuses=STATUSES) as load:
            time.sleep(WARM_UP_SECONDS + seconds)
            samples = load.samples()
        counted = [sample for sample in samples if sample.due >= samples[0].due + WARM_UP_SECONDS]
        self.p50_ms.append(percentile_ms((sample.seconds for sample in counted), 50))
        self.p99_ms.append(percentile_ms((sample.seconds for sample in counted), 99))
        self.late_ms.append(percentile_ms((sample.late_seconds for sample in counted), 99))
        return len(samples)

    def __str__(self) -> str:
        return f"p50 {self.p50_ms[-1]:.2f} ms, p99 {self.p99_ms[-1]:.2f} ms"


def compare(folder: Path, cores: Cores, rounds: int, seconds: float, fsync: str) -> Result:
    """Return the percentiles, and the increase over bare aiohttp within each pair."""
    with ExitStack() as stack:
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey", fsync))
        ackstream, aiohttp = (
            AnswerTimes(stack.enter_context(server), cores, folder)
            for server in (
                servers.ackstream(url, cores.measured, folder, signatures="required"),
                http_servers.aiohttp(cores.measured, folder),
            )
        )
        for number in range(rounds):
            for is_ours in (True, False) if number % 2 == 0 else (False, True):
                if is_ours:
                    _load_checked(ackstream, seconds, valkey)
                else:
                    aiohttp.load(seconds)
            print(f"round {number + 1} of {rounds}: {ackstream}; bare aiohttp {aiohttp}", file=sys.stderr, flush=True)
    added = [ours - theirs for ours, theirs in zip(ackstream.p99_ms, aiohttp.p99_ms, strict=True)]
    note = (
        f"{RATE:,} signed webhooks/s on {CONNECTIONS} connections, appendfsync {fsync}, {seconds:g} s a round, counted "
        "from the time at which a request was due"
    )
    return Result(
        notes=[note],
        figures=[
            Figure("ingest, signed: p50", "ms", P50_MS, ackstream.p50_ms),
            Figure("ingest, signed: p99", "ms", P99_MS, ackstream.p99_ms),
            Figure("ingest, signed: p99 above that of bare aiohttp, within each round", "ms", ADDED_P99_MS, added),
            Figure("bare aiohttp: p50", "ms", None, aiohttp.p50_ms),
            Figure("bare aiohttp: p99", "ms", None, aiohttp.p99_ms),
            Figure("delay of the load generator, included above: p99", "ms", None, ackstream.late_ms + aiohttp.late_ms),
        ],
    )


def _load_checked(ackstream: AnswerTimes, seconds: float, valkey: Redis) -> None:
    """Put the load on ingest; each answer must have an entry on the stream."""
    empty(valkey)
    answered = ackstream.load(seconds)
    entries = valkey.xlen(Shard().stream)
    assert entries == answered, f"{answered} answers of 200, {entries} entries"
