"""Measure how thousands of slow clients delay good requests, and the memory they take."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from redis import Redis

from bench.load import slow_clients
from bench.load.steady_rate import p99_ms, run_load
from bench.rig import servers
from bench.rig.consumption import empty
from bench.rig.processes import Cores, environment, resident_memory_bytes, run_process
from bench.rig.servers import Server
from ingest.settings import IngestSettings
from stream.keys import Shard

SLOW = 4000
GOOD_PER_SECOND = 1000
WARM_UP_SECONDS = 2.0
SECONDS = 12.0  # longer than the deadlines, so that slow clients are closed and reconnect
P99_LIMIT_MS = 25.0
MEBIBYTE = 2**20
MEMORY_LIMIT_MIB = 64.0
CLIENT_SECONDS, BODY_SECONDS = (
    float(IngestSettings.model_fields[name].default) for name in ("client_seconds", "body_seconds")
)
SLACK_SECONDS = 2.0
DEADLINES = {"silent": CLIENT_SECONDS, "drips a head": CLIENT_SECONDS, "drips a body": BODY_SECONDS}


@dataclass(slots=True)
class SlowClientResults:
    """The results of the rounds."""

    without_ms: list[float] = field(default_factory=list)
    with_ms: list[float] = field(default_factory=list)
    grown_mib: list[float] = field(default_factory=list)
    swarms: list[Mapping[str, Any]] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return the lines to print."""
        more = [after - before for after, before in zip(self.with_ms, self.without_ms, strict=True)]
        least = min(swarm["most"] for swarm in self.swarms)
        return [
            f"slow clients: {least:,} open during {GOOD_PER_SECOND:,} good requests/s, a third of each kind",
            f"p99 of the good: {median(self.without_ms):.1f} ms without, {median(self.with_ms):.1f} ms with them; "
            f"difference in pairs: median {median(more):+.1f} ms, {min(more):+.1f} to {max(more):+.1f}; "
            + _limit_result(median(more), P99_LIMIT_MS, "ms"),
            f"memory of ingest: {max(self.grown_mib):+.1f} MiB; "
            + _limit_result(max(self.grown_mib), MEMORY_LIMIT_MIB, "MiB"),
            *(self._describe_closed(name, deadline) for name, deadline in DEADLINES.items()),
        ]

    def _describe_closed(self, name: str, deadline: float) -> str:
        ended = [swarm["ended"][name] for swarm in self.swarms]
        shortest, longest = (
            min(kind["shortest_seconds"] for kind in ended),
            max(kind["longest_seconds"] for kind in ended),
        )
        answers: Counter[str] = Counter()
        for kind in ended:
            answers.update(kind["answers"])
        summary = ", ".join(f"{number:,} {answer or 'no answer'}" for answer, number in answers.most_common())
        closed = sum(kind["number"] for kind in ended)
        within = deadline - 0.1 <= shortest and longest < deadline + SLACK_SECONDS
        return (
            f"{name}: {closed:,} closed after {shortest:.1f} to {longest:.1f} s ({summary}); "
            f"deadline {deadline:.0f} s: {'met' if within else 'missed'}"
        )


def _limit_result(values: float, limit: float, unit: str) -> str:
    return f"limit {limit:.0f} {unit}: {'met' if values <= limit else 'missed'}"


def compare(folder: Path, cores: Cores, rounds: int) -> list[str]:
    """Return the lines to print. Each round is a pair; every second pair runs in the opposite order."""
    results = SlowClientResults()
    with ExitStack() as stack:
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey"))
        is_even = {
            "keepalive_seconds": "10"
        }  # the deadline of a request head, so that silent clients end like the others
        server = stack.enter_context(servers.ackstream(url, cores.measured, folder, signatures="required", **is_even))
        _p99_ms(server, valkey, cores, folder, WARM_UP_SECONDS)
        empty(valkey)
        quiet_mib = resident_memory_bytes(server.pid) / MEBIBYTE
        for number in range(rounds):
            for slowly in (False, True) if number % 2 == 0 else (True, False):
                if slowly:
                    _load_with_slow_clients(results, server, valkey, cores, folder, quiet_mib)
                else:
                    results.without_ms.append(_p99_ms(server, valkey, cores, folder))
            shown = f"{results.without_ms[-1]:.1f} ms without, {results.with_ms[-1]:.1f} ms with"
            print(f"round {number + 1} of {rounds}: {shown}", file=sys.stderr, flush=True)
    return results.notes()


def _load_with_slow_clients(
    results: SlowClientResults, server: Server, valkey: Redis, cores: Cores, folder: Path, quiet_mib: float
) -> None:
    command = (sys.executable, "-m", slow_clients.__name__, str(server.port), server.path, str(SLOW))
    with run_process(*command, core=cores.rest, folder=folder, environment=environment(), talks=True) as swarm:
        assert _line(swarm) == slow_clients.HELD, "the slow clients could not connect"
        results.with_ms.append(_p99_ms(server, valkey, cores, folder))
        results.grown_mib.append(resident_memory_bytes(server.pid) / MEBIBYTE - quiet_mib)
        assert swarm.stdin is not None
        swarm.stdin.write(b"enough\n")
        swarm.stdin.flush()
        results.swarms.append(orjson.loads(_line(swarm)))


def _p99_ms(server: Server, valkey: Redis, cores: Cores, folder: Path, seconds: float = SECONDS) -> float:
    """Send good requests; each must be on the stream."""
    empty(valkey)
    with run_load(server.port, server.path, GOOD_PER_SECOND, cores.rest, folder) as load:
        time.sleep(seconds)
        samples = load.samples()
    entries = valkey.xlen(Shard().stream)
    assert entries == len(samples), f"{len(samples)} answers of 200, {entries} entries"
    return p99_ms(samples)


def _line(child: "subprocess.Popen[bytes]") -> str:
    assert child.stdout is not None
    return child.stdout.readline().decode().strip()
