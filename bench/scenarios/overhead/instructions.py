"""Count the instructions of ingest and of a worker without traces, and with traces of 1 % of the webhooks.

``python -m bench.scenarios.overhead.instructions``. Valgrind counts them, so the figures do not depend on the load of
the machine; those of the kernel are not counted. The start of a process is left out, and the export is included.

The spans of single webhooks and events are counted with every one traced, less with none traced, divided by 100. Lists
get one traced event in 100: each list then has a span with several links.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis

from bench.handlers import noop
from bench.load.closed_loop import ClosedConnection, ClosedLoop, request
from bench.rig import consumption, servers
from bench.rig.instructions import CountedProcess, run_counted
from bench.rig.payloads import ACCOUNT, SECRET, payloads
from bench.rig.processes import HOST, Cores, environment
from bench.rig.ratio import Measure, measure_in_turn
from bench.rig.statuses import entries
from bench.scenarios.overhead import slow_clock
from bench.scenarios.overhead.tracing import GROUP, ONE_OF, TRACEPARENT, run_sink
from console.up.valkey import find_free_port
from stream.keys import Shard

WARM_UP = 200
NUMBERS = {"ingest": 2500, "one": 3000, "many": 10_000}
"""How many requests or events are counted: those of ingest, of a function of one event, and of one of lists."""
TRACED = 1024
"""The same, if every one is traced."""
EXPORTED_AT_ONCE = {"ingest": 256, "one": 256, "many": 10}
"""Spans of one export: fewer than under load, in which 5 s are between two exports."""
CONNECTIONS = 16
START_SECONDS = 120.0
PATH = "/webhooks/message-status"
KINDS: Mapping[str, tuple[str, int]] = {"off": ("off", 0), "none": ("otlp", 0), "all": ("otlp", 1)}
"""The setting, and one of how many is traced (0: none), of each measurement."""
KINDS_OF_LISTS: Mapping[str, tuple[str, int]] = {"off": ("off", 0), "otlp": ("otlp", ONE_OF)}
PARTS = {"ingest": "ingest, signed", "one": "a function of one event", "many": "a function of lists"}


class CountedInstallation:
    """A Valkey, and a folder for each counted process."""

    def __init__(self, folder: Path, url: str, valkey: Redis) -> None:
        self._folders = (folder / str(number) for number in count())
        self._url = url
        self._valkey = valkey

    @contextmanager
    def _run(self, *command: str, part: str, **settings: str) -> Iterator[CountedProcess]:
        os.environ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] = str(EXPORTED_AT_ONCE[part])
        folder = next(self._folders)
        variables = environment(redis_url=self._url, data=str(folder / "data"), **settings)
        python = sys.executable, "-m"
        core = Cores.available().measured
        with run_counted(*python, *command, core=core, folder=folder, environment=variables) as process:
            yield process

    def count_ingest(self, tracing: str, one_of: int) -> float:
        """Return the instructions of a signed request."""
        consumption.empty(self._valkey)
        os.environ["OTEL_TRACES_SAMPLER_ARG"] = str(one_of)
        port, number = find_free_port(), TRACED if one_of else NUMBERS["ingest"]
        ports = {"port": str(port), "admin_port": str(find_free_port()), "ack_budget_ms": "10000"}
        signed = {"signatures": "required", "signature_secrets": f"{ACCOUNT}:{SECRET}"}
        with self._run("console", "ingest", part="ingest", tracing=tracing, **ports, **signed) as process:
            asyncio.run(send(port, WARM_UP))
            answers: list[int] = []
            instructions = process.count(lambda: answers.append(asyncio.run(send(port, number))))
        return instructions / answers[0]

    def count_worker(self, function: str, tracing: str, one_of: int) -> float:
        """Return the instructions of an event that a worker hands to a function of bench.handlers.noop."""
        consumption.empty(self._valkey)
        stream, number = Shard().stream, TRACED if one_of == 1 else NUMBERS[function]
        command = slow_clock.__name__, "worker", "--handler", f"{GROUP}={noop.__name__}:{function}"
        with self._run(*command, part=function, tracing=tracing) as process:
            consumption.await_groups(self._valkey, stream, [GROUP], process.child)

            def handle(first: int, last: int) -> None:
                self._append_at_once(first, last, one_of)
                consumption.await_settled(self._valkey, stream, [GROUP], process.child)

            handle(0, WARM_UP)
            return process.count(partial(handle, WARM_UP, WARM_UP + number)) / number

    def _append_at_once(self, first: int, last: int, one_of: int) -> None:
        """Append the statuses of these places in one transaction, so that the worker reads them in few batches."""
        with self._valkey.pipeline(transaction=True) as pipe:
            for place, entry in list(enumerate(entries(payloads(last))))[first:]:
                is_traced = one_of and place % one_of == 0
                traced = entry._replace(traceparent=TRACEPARENT.format(place + 1)) if is_traced else entry
                pipe.xadd(Shard().stream, dict[Any, Any](traced.to_fields()))
            pipe.execute()


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


def list_measures(installation: CountedInstallation, part: str) -> Mapping[str, Measure]:
    """Return the measurements of a part."""
    if part == "ingest":
        return {kind: partial(installation.count_ingest, *values) for kind, values in KINDS.items()}
    kinds = KINDS_OF_LISTS if part == "many" else KINDS
    return {kind: partial(installation.count_worker, part, *values) for kind, values in kinds.items()}


def describe(part: str, counts: Mapping[str, Sequence[float]]) -> str:
    """Return the ratio of the instructions with traces to those without: the median and the range of the rounds."""
    traced = counts.get("otlp") or [
        none + (every - none) / ONE_OF for none, every in zip(counts["none"], counts["all"], strict=True)
    ]
    ratios = [ours / theirs for ours, theirs in zip(traced, counts["off"], strict=True)]
    return (
        f"{PARTS[part]}: {median(counts['off']):,.0f} without traces, {median(traced):,.0f} with 1 %, "
        f"ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


def main() -> None:
    """Count, and print each count and the ratios."""
    parser = argparse.ArgumentParser(description="Count the instructions of tracing 1 % of the webhooks.")
    parser.add_argument("parts", nargs="*", help=f"{', '.join(NUMBERS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ |= {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
    with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as name, run_sink() as endpoint:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
        with servers.valkey(Path(name) / "valkey") as (url, valkey):
            installation = CountedInstallation(Path(name), url, valkey)
            for part in arguments.parts or NUMBERS:
                counts = measure_in_turn(arguments.rounds, list_measures(installation, part))
                for kind, values in counts.items():
                    print(f"{part}, {kind}: {', '.join(f'{value:,.0f}' for value in values)}")
                print(describe(part, counts), flush=True)


if __name__ == "__main__":
    main()
