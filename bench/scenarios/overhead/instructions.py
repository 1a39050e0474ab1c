"""Count the instructions of ingest and of a worker without traces, and with traces of 1 % of the webhooks.

``python -m bench.scenarios.overhead.instructions``. Valgrind counts them, so the figures do not depend on the load of
the machine; those of the kernel are not counted. The difference of a long and a short run leaves out start and stop.
The spans are counted with every webhook traced, less with none traced, divided by 100; their export is included.
"""

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from redis import Redis

from bench.handlers import noop
from bench.load.closed_loop import ClosedConnection, ClosedLoop, request
from bench.rig import consumption, servers
from bench.rig.payloads import ACCOUNT, SECRET, payloads
from bench.rig.processes import HOST, Cores, environment, run_process
from bench.rig.statuses import entries
from bench.scenarios.overhead.tracing import GROUP, ONE_OF, TRACEPARENT, run_sink
from console.up.valkey import find_free_port
from stream.keys import Shard

FEW, MANY = 500, 3000
CONNECTIONS = 16
START_SECONDS = 120.0
PATH = "/webhooks/message-status"
VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
COUNT = re.compile(rb"I\s+refs:\s+([\d,]+)")
KINDS = {"off": ("off", 0.0), "none": ("otlp", 0.0), "all": ("otlp", 1.0)}
"""The setting, and the share of traced webhooks, of each measurement."""


@contextmanager
def run_counted(folder: Path, *arguments: str, **settings: str) -> Iterator[list[int]]:
    """Run ``ackstream ARGUMENTS`` under valgrind. After the block the yielded list has the count."""
    count: list[int] = []
    command = *VALGRIND, sys.executable, "-m", "console", *arguments
    variables = environment(data=str(folder / "data"), **settings) | {"PYTHONHASHSEED": "0"}
    with run_process(*command, core=Cores.available().measured, folder=folder, environment=variables):
        yield count
    count.append(int(COUNT.findall((folder / "stderr.log").read_bytes())[-1].replace(b",", b"")))


async def send(port: int, number: int) -> int:
    """Send about this number of webhooks on some connections, once the port is open; return the number of answers."""
    load, loop = ClosedLoop(request(PATH), CONNECTIONS), asyncio.get_running_loop()

    class CountedConnection(ClosedConnection):
        def data_received(self, data: bytes) -> None:
            load.sending = load.answered < number
            super().data_received(data)

    deadline = time.monotonic() + START_SECONDS
    while load.waiting < CONNECTIONS:
        try:
            await loop.create_connection(lambda: CountedConnection(load), HOST, port)
        except OSError:
            assert time.monotonic() < deadline, f"ingest did not listen within {START_SECONDS:.0f} s"
            await asyncio.sleep(0.1)
    await load.ended
    return load.answered


def count_ingest(folder: Path, url: str, valkey: Redis, tracing: str, number: int) -> tuple[int, int]:
    """Return the instructions of ingest, and the number of requests."""
    consumption.empty(valkey)
    port = find_free_port()
    settings = {"port": str(port), "admin_port": str(find_free_port()), "ack_budget_ms": "10000"}
    signed = {"signatures": "required", "signature_secrets": f"{ACCOUNT}:{SECRET}"}
    with run_counted(folder, "ingest", redis_url=url, tracing=tracing, **settings, **signed) as count:
        answers = asyncio.run(send(port, number))
    return count[0], answers


def count_worker(folder: Path, url: str, valkey: Redis, tracing: str, number: int) -> tuple[int, int]:
    """Return the instructions of a worker whose function takes one event, and the number of events."""
    share = float(os.environ["OTEL_TRACES_SAMPLER_ARG"])
    made = enumerate(entries(payloads(number)))
    traced = (entry._replace(traceparent=TRACEPARENT.format(place + 1)) if share else entry for place, entry in made)
    stream = Shard().stream
    consumption.fill(valkey, stream, [entry.to_fields() for entry in traced])
    valkey.xgroup_create(stream, GROUP, id="0")
    handler = f"{GROUP}={noop.__name__}:one"
    with run_counted(folder, "worker", "--handler", handler, redis_url=url, tracing=tracing) as count:
        deadline = time.monotonic() + START_SECONDS
        while consumption.count_settled(valkey, stream, GROUP) < number:
            assert time.monotonic() < deadline, f"the worker did not settle {number} events"
            time.sleep(0.05)
    return count[0], number


def measure(count: Callable[[str, int], tuple[int, int]]) -> dict[str, float]:
    """Return the instructions for each request or event, by kind."""
    each: dict[str, float] = {}
    for kind, (tracing, share) in KINDS.items():
        os.environ["OTEL_TRACES_SAMPLER_ARG"] = str(share)
        (few, first), (many, last) = (count(tracing, number) for number in (FEW, MANY))
        each[kind] = (many - few) / (last - first)
        sys.stderr.write(f"{kind}: {each[kind]:,.0f} instructions\n")
    return each


def main() -> None:
    """Count, and print the ratios."""
    os.environ["OTEL_TRACES_SAMPLER"] = "traceidratio"
    counts = {"ingest": count_ingest, "worker": count_worker}
    with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as name, run_sink() as endpoint:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
        with servers.valkey(Path(name) / "valkey") as (url, valkey):
            for part in sys.argv[1:] or counts:
                (folder := Path(name) / part).mkdir()
                each = measure(partial(counts[part], folder, url, valkey))
                spans = (each["all"] - each["none"]) / ONE_OF
                ratio = (each["none"] + spans) / each["off"]
                print(f"{part}: {each['off']:,.0f} without traces, {each['none'] + spans:,.0f} with 1 %: {ratio:.3f}")


if __name__ == "__main__":
    main()
