"""Compare the instructions and the CPU time of a status with the last accepted figures, to notice a slower version.

``make guard`` measures and compares. Its exit code is 1 if a figure is above its limit. ``make guard ARGS=--accept``
writes the figures to ``bench/accepted.json``: commit the file with the change that explains it.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from redis import Redis

from bench.baselines import http_servers
from bench.handlers import noop
from bench.load.closed_loop import run_load
from bench.rig import consumption, servers
from bench.rig.instructions import has_counter, run_counted
from bench.rig.payloads import ACCOUNT, SECRET, bearer
from bench.rig.processes import HOST, ROOT, Cores, await_port, environment
from bench.rig.results import describe_source, write_json
from bench.rig.statuses import signed_entries, sized_payloads
from console.up.valkey import find_free_port
from stream.keys import Shard

FILE = ROOT / "bench" / "accepted.json"
WARM_UP, COUNTED = 100, 500
SIZE = 560
PATH = "/webhooks/message-status"
OK = 200
SLOW_SECONDS = 180.0
LOAD_SECONDS = 2.0
LIMITS = {"instructions": 1.08, "cpu": 1.25}
"""The greatest ratio to the accepted figure. Four counts on a busy machine differed by up to 6 %: a slow process does
more work by time, such as heartbeats. The batches of ``store`` depend on time too, so it is not compared."""
NO_COUNTER = "instructions are not counted: install valgrind (apt-get install valgrind)"
GROUP = "guard"
HANDLERS = {
    "worker, function of one event": f"{noop.__name__}:one",
    "worker, function of a list": f"{noop.__name__}:many",
}

Figure = tuple[str, str, float]


def count_ingest(folder: Path, cores: Cores) -> float:
    """Return the instructions of a signed request, sent one by one on one connection."""
    port, body = find_free_port(), sized_payloads(1, SIZE)[0]
    headers = {"Content-Type": "application/json", "Authorization": bearer(body)}
    with servers.valkey(folder / "valkey", "everysec") as (url, _):
        settings = environment(
            redis_url=url,
            data=str(folder / "data"),
            port=str(port),
            admin_port=str(find_free_port()),
            signatures="required",
            signature_secrets=f"{ACCOUNT}:{SECRET}",
            ack_budget_ms="10000",
        )
        command = sys.executable, "-m", "console", "ingest"
        with run_counted(*command, core=cores.measured, folder=folder / "counted", environment=settings) as process:
            await_port(port, process.child, SLOW_SECONDS)
            connection = HTTPConnection(HOST, port, timeout=SLOW_SECONDS)

            def send(number: int) -> None:
                for _ in range(number):
                    connection.request("POST", PATH, body, headers)
                    response = connection.getresponse()
                    response.read()
                    assert response.status == OK, response.status

            send(WARM_UP)
            return process.count(partial(send, COUNTED)) / COUNTED


def count_worker(folder: Path, cores: Cores, handler: str) -> float:
    """Return the instructions of an event, all of them in few batches."""
    with servers.valkey(folder / "valkey", "everysec") as (url, valkey):
        settings = environment(redis_url=url, data=str(folder / "data"))
        command = sys.executable, "-m", "console", "worker", "--handler", f"{GROUP}={handler}"
        with run_counted(*command, core=cores.measured, folder=folder / "counted", environment=settings) as process:
            consumption.await_groups(valkey, Shard().stream, [GROUP], process.child)

            def handle(first: int, last: int) -> None:
                _append_at_once(valkey, first, last)
                consumption.await_settled(valkey, Shard().stream, [GROUP], process.child)

            handle(0, WARM_UP)
            return process.count(partial(handle, WARM_UP, WARM_UP + COUNTED)) / COUNTED


def _append_at_once(valkey: Redis, first: int, last: int) -> None:
    """Append the statuses of these places in one transaction, so that the worker reads them in one batch."""
    with valkey.pipeline(transaction=True) as pipe:
        for entry in list(signed_entries(sized_payloads(last, SIZE)))[first:]:
            pipe.xadd(Shard().stream, dict[Any, Any](entry.to_fields()))
        pipe.execute()


def measure_cpu(folder: Path, cores: Cores, rounds: int) -> dict[str, float]:
    """Return the CPU time of a request as a multiple of that of bare aiohttp, the median of interleaved rounds."""
    ratios: dict[str, list[float]] = {"off": [], "required": []}
    with servers.valkey(folder / "valkey", "everysec") as (url, valkey):
        for _ in range(rounds):
            with http_servers.aiohttp(cores.measured, folder) as bare:
                bare_us = run_load(bare.port, bare.path, LOAD_SECONDS, bare.pid, folder).server_us
            for signatures, values in ratios.items():
                consumption.empty(valkey)
                with servers.ackstream(url, cores.measured, folder, signatures=signatures) as server:
                    values.append(
                        run_load(server.port, server.path, LOAD_SECONDS, server.pid, folder).server_us / bare_us
                    )
    names = {"off": "ingest", "required": "ingest, signed"}
    return {names[signatures]: median(values) for signatures, values in ratios.items()}


def measure(parts: Sequence[str], cores: Cores, rounds: int) -> Iterator[Figure]:
    """Yield each figure: its kind, its name and its value."""
    counters: dict[str, Callable[[Path, Cores], float]] = {"ingest, signed": count_ingest}
    counters |= {name: partial(count_worker, handler=handler) for name, handler in HANDLERS.items()}
    for name, count in counters.items() if "instructions" in parts else ():
        with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as folder:
            yield "instructions", name, count(Path(folder), cores)
    if "cpu" in parts:
        with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as folder:
            for name, ratio in measure_cpu(Path(folder), cores, rounds).items():
                yield "cpu", name, ratio


def find_excess(accepted: Mapping[str, Any], kind: str, name: str, value: float) -> float | None:
    """Return the value as a multiple of the accepted one, if that is above the limit of its kind."""
    ratio = value / accepted[kind][name] if name in accepted.get(kind, {}) else 0.0
    return ratio if ratio > LIMITS[kind] else None


def choose_parts(names: Sequence[str]) -> Sequence[str]:
    """Return the parts to measure: those named, else all that are possible here. Exits if a named one is not."""
    if unknown := set(names) - set(LIMITS):
        sys.exit(f"{min(unknown)!r} is not a part: write {' or '.join(LIMITS)}")
    if "instructions" not in (names or LIMITS) or has_counter():
        return names or list(LIMITS)
    if names:
        sys.exit(NO_COUNTER)
    print(NO_COUNTER)
    return [part for part in LIMITS if part != "instructions"]


def main() -> None:
    """Measure, compare and print; with --accept write."""
    parser = argparse.ArgumentParser(description="Compare the cost of a status with the last accepted figures.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="instructions, cpu (default: both)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the CPU times (default 5)")
    parser.add_argument("--accept", action="store_true", help="write the figures as accepted")
    arguments = parser.parse_args()
    parts = choose_parts(arguments.parts)
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    accepted = orjson.loads(FILE.read_bytes()) if FILE.exists() else {}
    source = describe_source(cores, arguments.rounds)
    for kind, before in accepted.get("sources", {}).items():
        for name in ("machine", "versions"):
            if kind in parts and before[name] != source[name]:
                print(f"the accepted {kind} figures differ in {name}: {before[name]}, now {source[name]}")
    figures: dict[str, dict[str, float]] = {kind: {} for kind in LIMITS}
    is_worse = False
    for kind, name, value in measure(parts, cores, arguments.rounds):
        figures[kind][name] = round(value, 3 if kind == "cpu" else 0)
        excess = find_excess(accepted, kind, name, value)
        is_worse |= excess is not None
        before = accepted.get(kind, {}).get(name)
        change = f"{value / before - 1:+.1%}" if before else "new"
        print(f"{kind:12}  {name:30}  {value:12,.2f}  {change:>8}  {'above the limit' if excess else ''}", flush=True)
    if arguments.accept:
        sources = {**accepted.get("sources", {}), **dict.fromkeys(parts, source)}
        write_json(FILE, {**accepted, "sources": sources, **{part: figures[part] for part in parts}})
    elif is_worse:
        sys.exit("slower than accepted: find the cause, or accept the figures with --accept and say why in the commit")
    else:
        limits = ", ".join(f"{kind} {LIMITS[kind] - 1:.0%}" for kind in parts)
        print(f"no figure is above its limit over {FILE.relative_to(ROOT)}: {limits}")


if __name__ == "__main__":
    main()
