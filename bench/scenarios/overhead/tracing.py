"""Compare ingest and workers that trace 1 % of the webhooks with those that trace none.

``python -m bench.scenarios.overhead.tracing``. The spans go to a server on the core of the load, which takes them, by
the default delay. Each round also measures the processes without traces a second time: the ratio of two equal ones is
the noise.
"""

import argparse
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from redis import Redis

from bench.handlers import noop
from bench.load.closed_loop import run_load
from bench.rig import consumption, servers
from bench.rig.payloads import payloads
from bench.rig.processes import HOST, Cores, environment, program, run_process
from bench.rig.ratio import Measure, Ratio, measure_in_turn, table
from bench.rig.statuses import entries
from bench.scenarios.ingest import COST
from stream.keys import Shard

ONE_OF = 100
LIMIT = 1.03
GROUP = "idle"
KINDS = {"off": "off", "off again": "off", "otlp": "otlp"}
"""The setting of each measurement. The first two are equal."""
TRACEPARENT = f"00-{{:032x}}-{1:016x}-01"


class Sink(BaseHTTPRequestHandler):
    """Takes exports, and counts their bytes."""

    protocol_version = "HTTP/1.1"
    received_bytes: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        """Read the spans."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received_bytes.append(len(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class TracedWorker:
    """A stream with a traced entry in each ONE_OF, which one worker after the other consumes."""

    def __init__(self, url: str, valkey: Redis, folder: Path, core: int, number: int) -> None:
        self._url = url
        self._valkey = valkey
        self._folder = folder
        self._core = core
        traced = (
            entry if place % ONE_OF else entry._replace(traceparent=TRACEPARENT.format(place + 1))
            for place, entry in enumerate(entries(payloads(number)))
        )
        self._entries = [entry.to_fields() for entry in traced]

    def cost_us(self, function: str, tracing: str) -> float:
        """Return the CPU microseconds of a worker for each event that it hands to a function of bench.handlers.noop."""
        stream = Shard().stream
        self._valkey.config_set("appendfsync", "everysec")
        consumption.fill(self._valkey, stream, self._entries)
        self._valkey.xgroup_create(stream, GROUP, id="0")
        settings = environment(redis_url=self._url, data=str(self._folder / "data"), tracing=tracing)
        command = program("ackstream"), "worker", "--handler", f"{GROUP}={noop.__name__}:{function}"
        with run_process(*command, core=self._core, folder=self._folder, environment=settings) as child:
            return consumption.cost_us(self._valkey, stream, GROUP, child)


@contextmanager
def run_sink() -> Iterator[str]:
    """Run the sink in a thread of this process; yields its URL."""
    server = ThreadingHTTPServer((HOST, 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()


def compare_ingest(folder: Path, cores: Cores, rounds: int, seconds: float) -> list[Ratio]:
    """Return the ratios of the costs of a request. Each load has a process of its own."""
    with servers.valkey(folder / "valkey") as (url, valkey):

        def cost_us(tracing: str) -> float:
            consumption.empty(valkey)
            with servers.ackstream(url, cores.measured, folder, signatures="required", tracing=tracing) as server:
                return run_load(server.port, server.path, seconds, server.pid, folder).server_us

        costs = measure_in_turn(rounds, {kind: partial(cost_us, tracing) for kind, tracing in KINDS.items()})
    return compare("ingest", COST, costs)


def compare(what: str, unit: str, costs: Mapping[str, Sequence[float]]) -> list[Ratio]:
    """Return the ratio of the costs with and without traces, and that of the two equal measurements."""
    kinds = {"traces of 1 %": "otlp", "without traces, again": "off again"}
    return [
        Ratio(f"{what}, {name}", "without traces", unit, LIMIT, costs[kind], costs["off"], is_cost=True)
        for name, kind in kinds.items()
    ]


def compare_workers(folder: Path, cores: Cores, rounds: int, number: int) -> list[Ratio]:
    """Return the ratios of the costs of an event."""
    functions = {"one event": "one", "a list": "many"}
    with servers.valkey(folder / "valkey") as (url, valkey):
        worker = TracedWorker(url, valkey, folder, cores.measured, number)
        measures: dict[str, Measure] = {
            f"{name} {kind}": partial(worker.cost_us, function, tracing)
            for name, function in functions.items()
            for kind, tracing in KINDS.items()
        }
        costs = measure_in_turn(rounds, measures)
    return [
        ratio
        for name in functions
        for ratio in compare(f"a function of {name}", "CPU us/event", {kind: costs[f"{name} {kind}"] for kind in KINDS})
    ]


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description="Measure the cost of tracing 1 % of the webhooks.")
    parser.add_argument("parts", nargs="*", help="ingest, workers (default: both)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of each load on ingest")
    parser.add_argument("--entries", type=int, default=150_000, help="entries of each round of a worker")
    arguments = parser.parse_args()
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    ratios: list[Ratio] = []
    with run_sink() as url:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        for part in arguments.parts or ("ingest", "workers"):
            with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as name:
                if part == "ingest":
                    ratios += compare_ingest(Path(name), cores, arguments.rounds, arguments.seconds)
                else:
                    ratios += compare_workers(Path(name), cores, arguments.rounds, arguments.entries)
    print(table(ratios))
    print(f"exports: {len(Sink.received_bytes)}, bytes: {sum(Sink.received_bytes)}")


if __name__ == "__main__":
    main()
