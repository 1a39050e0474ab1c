"""Measure ingest and a worker on streams that already hold up to ten million entries.

A Valkey for each backlog runs all the time, so that the rounds interleave. Ingest appends behind the backlog. The
worker starts a new group at its start, and is measured over as many entries as the smallest backlog holds.
"""

import sys
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from bench.handlers import noop
from bench.load.closed_loop import run_load
from bench.rig import consumption, servers
from bench.rig.figures import Curve
from bench.rig.processes import Cores, environment, program, run_process
from bench.rig.ratio import Ratio
from bench.rig.results import Result
from bench.rig.servers import Server
from bench.rig.statuses import entries
from bench.scenarios.ingest import COST
from stream.keys import Shard

BACKLOGS = (100_000, 1_000_000, 10_000_000)
CONSUMED = BACKLOGS[0]
LIMIT = 1.10
FILLED_AT_ONCE = 10_000
PAYLOAD = b'{"message_uuid":"%s","timestamp":"2025-02-03T12:14:25Z","status":"delivered"}' % (b"a" * 36)

# KEYS: stream. ARGV: how many entries to append, then names and values of their fields.
FILL = """
for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2)) end
"""


@dataclass(slots=True)
class FilledStream:
    """A Valkey whose stream has a backlog, and an ingest process that appends to it."""

    url: str
    valkey: Redis
    ingest: Server
    entries: int
    groups: int = 0

    def fill(self) -> None:
        """Append the backlog; the append-only file gets it in one rewrite."""
        self.valkey.config_set("maxmemory", 0)
        self.valkey.config_set("appendonly", "no")
        fill, fields = self.valkey.register_script(FILL), next(entries([PAYLOAD])).to_fields()
        flat = [part for pair in fields.items() for part in pair]
        for _ in range(self.entries // FILLED_AT_ONCE):
            fill(keys=[Shard().stream], args=[FILLED_AT_ONCE, *flat])
        self.valkey.config_set("appendonly", "yes")
        consumption.await_rewritten(self.valkey)

    def ingest_us(self, seconds: float, folder: Path) -> float:
        """Return the CPU microseconds of ingest for a request."""
        load = run_load(self.ingest.port, self.ingest.path, seconds, self.ingest.pid, folder)
        added = self.valkey.xlen(Shard().stream) - self.entries
        assert added == load.answered, f"{load.answered} answers of 200, {added} entries"
        self.valkey.xtrim(Shard().stream, self.entries, approximate=False)
        return load.server_us

    def worker_us(self, core: int, folder: Path) -> float:
        """Return the CPU microseconds of a worker for an event of a function of a list."""
        self.groups += 1
        group, settings = (
            f"backlog{self.groups}",
            environment(redis_url=self.url, data=str(folder / "data"), retention="off"),
        )
        command = program("ackstream"), "worker", "--handler", f"{group}={noop.__name__}:many"
        with run_process(*command, core=core, folder=folder, environment=settings) as child:
            return consumption.cost_us(self.valkey, Shard().stream, group, child, entries=CONSUMED)


def compare(folder: Path, cores: Cores, rounds: int, seconds: float, greatest: int) -> Result:
    """Return the curves, and the ratios of the greatest backlog to the smallest. Valkey fsyncs once a second."""
    sizes = [0, *(size for size in BACKLOGS if size <= greatest)]
    requests: dict[float, list[float]] = defaultdict(list)
    events: dict[float, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        streams = [_open_stream(stack, folder, cores, size) for size in sizes]
        for number in range(rounds):
            for stream in streams[:: 1 if number % 2 == 0 else -1]:
                requests[stream.entries].append(stream.ingest_us(seconds, folder))
                if stream.entries:
                    events[stream.entries].append(stream.worker_us(cores.measured, folder))
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    last = f"a backlog of {sizes[-1]:,} entries"
    return Result(
        [
            Ratio(f"ingest, {last}", "an empty stream", COST, LIMIT, requests[sizes[-1]], requests[0], is_cost=True),
            Ratio(
                f"worker, {last}",
                f"a backlog of {CONSUMED:,}",
                "CPU us/event",
                LIMIT,
                events[sizes[-1]],
                events[CONSUMED],
                is_cost=True,
            ),
        ],
        ["appendfsync everysec, 64 connections without signatures; a function of a list that does nothing"],
        curves=[
            Curve("entries on the stream", COST, {"ingest": requests}, is_log=True),
            Curve("entries on the stream", "CPU us/event", {"worker, function of a list": events}, is_log=True),
        ],
    )


def _open_stream(stack: ExitStack, folder: Path, cores: Cores, size: int) -> FilledStream:
    """Start the servers of a backlog, and fill it."""
    place = folder / f"backlog-{size}"
    place.mkdir()
    url, valkey = stack.enter_context(servers.valkey(place / "valkey", "everysec"))
    ingest = stack.enter_context(servers.ackstream(url, cores.measured, place, signatures="off"))
    stream = FilledStream(url, valkey, ingest, size)
    stream.fill()
    return stream
