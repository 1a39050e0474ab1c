"""Measure the CPU time of a request as connections or bodies grow, next to bare aiohttp."""

import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.baselines import http_servers
from bench.load.closed_loop import CONNECTIONS, Loaded, run_load
from bench.rig import servers
from bench.rig.consumption import empty
from bench.rig.figures import Curve
from bench.rig.processes import Cores
from bench.rig.ratio import Ratio
from bench.rig.results import Result
from bench.scenarios.ingest import COST

COUNTS = (1, 8, 64, 256, 512)
SIZES = (350, 1024, 4096, 16_384, 65_536)
SIGNED, UNSIGNED, AIOHTTP = "ingest, signed", "ingest", "bare aiohttp"
LEAST_SHARE = 0.9
"""Of the speed of bare aiohttp, at the greatest number of connections."""

Loads = dict[str, dict[float, list[Loaded]]]
"""The loads of each server, by connections or bytes."""


def compare_connections(folder: Path, cores: Cores, rounds: int, seconds: float, fsync: str) -> Result:
    """Return the curves over the number of connections, and the ratios at the greatest one."""
    loads = _measure(
        folder, cores, rounds, seconds, fsync, {count: partial(run_load, connections=count) for count in COUNTS}
    )
    ours, theirs = loads[UNSIGNED][COUNTS[-1]], loads[AIOHTTP][COUNTS[-1]]
    what, costs = f"ingest at {COUNTS[-1]} connections", [[load.server_us for load in each] for each in (ours, theirs)]
    rates = [[load.rate for load in each] for each in (ours, theirs)]
    return Result(
        [
            Ratio(what, "bare aiohttp at as many", COST, 1 / LEAST_SHARE, *costs, is_cost=True),
            Ratio(what, "bare aiohttp at as many", "req", LEAST_SHARE, *rates),
        ],
        [f"statuses of 559 bytes, appendfsync {fsync}"],
        curves=[_draw_curve("connections", loads)],
    )


def compare_sizes(folder: Path, cores: Cores, rounds: int, seconds: float, fsync: str) -> Result:
    """Return the curves over the size of the body."""
    loads = _measure(folder, cores, rounds, seconds, fsync, {size: partial(run_load, size=size) for size in SIZES})
    notes = [f"{CONNECTIONS} connections, appendfsync {fsync}"]
    return Result([], notes, curves=[_draw_curve("bytes of the body", loads)])


def _measure(
    folder: Path, cores: Cores, rounds: int, seconds: float, fsync: str, places: Mapping[float, Callable[..., Loaded]]
) -> Loads:
    loads: Loads = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey", fsync))
        running = {
            SIGNED: stack.enter_context(servers.ackstream(url, cores.measured, folder, signatures="required")),
            UNSIGNED: stack.enter_context(servers.ackstream(url, cores.measured, folder, signatures="off")),
            AIOHTTP: stack.enter_context(http_servers.aiohttp(cores.measured, folder)),
        }
        for number in range(rounds):
            for place, run in places.items():
                for name in list(running)[:: 1 if number % 2 == 0 else -1]:
                    server = running[name]
                    empty(valkey)
                    load = run(server.port, server.path, seconds, server.pid, folder)
                    loads[name][place].append(load)
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return loads


def _draw_curve(axis: str, loads: Loads) -> Curve:
    lines = {
        name: {place: [load.server_us for load in each] for place, each in points.items()}
        for name, points in loads.items()
    }
    return Curve(axis, COST, lines, is_log=True)
