"""Measure how failing or hanging events slow down the others.

Throughput: the rate of the good events among events that fail (or hang), against their rate when all events succeed.
Latency: live events while thousands of failing events are retried, against live events alone, in pairs.
"""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from redis import Redis

from bench.handlers.noop import FAILING_OF, HANGING
from bench.load import live_entries
from bench.rig import consumption, servers
from bench.rig.processes import Cores, environment, program, run_process
from bench.rig.ratio import Measure, Ratio, measure_in_turn
from bench.rig.statuses import entries
from bench.scenarios.handlers import Handlers
from stream.keys import Shard

GROUP = "noted"
LIVE_PER_SECOND = 500
LIVE_SECONDS = 20.0
WARM_SECONDS = 2.0
FAILING = 10_000
P99_LIMIT_MS = 20.0
LOOK_SECONDS = 0.05
TARGET = 0.9


def compare(folder: Path, cores: Cores, rounds: int, number: int) -> tuple[list[Ratio], list[str]]:
    """Return the ratios, and notes on the rig and the latencies."""
    with ExitStack() as stack:
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey"))
        handlers = Handlers(url, valkey, folder, cores.measured, number)
        measures: dict[str, Measure] = {
            "all good": partial(handlers.rate, "check_only"),
            "some failing": partial(handlers.rate, "fail_some"),
            "some hanging": partial(handlers.rate, "hang_some", never=HANGING),
        }
        rates = measure_in_turn(rounds, measures)
        notes = _latencies(url, valkey, folder, cores, rounds)
    shares = {"some failing": 1 - 1 / FAILING_OF, "some hanging": 1.0}
    return [
        Ratio(f"the others, {which}", "all good", "events", TARGET, *_of_others(share, rates[which], rates["all good"]))
        for which, share in shares.items()
    ], [
        f"failing: {number:,} entries a round; one in {FAILING_OF} fails, or {HANGING} hang",
        *notes,
    ]


def _of_others(share: float, *rates: list[float]) -> list[list[float]]:
    """Return the rates of the good events, which are this share of all."""
    return [[rate * share for rate in measured] for measured in rates]


def _latencies(url: str, valkey: Redis, folder: Path, cores: Cores, rounds: int) -> list[str]:
    pairs: list[tuple[float, float]] = []
    consumption.empty(valkey)
    command = (
        program("ackstream"),
        "worker",
        "--handler",
        f"{GROUP}={live_entries.HANDLER}",
    )
    settings = environment(redis_url=url, data=str(folder / "data"), retention="off")
    with run_process(*command, core=cores.measured, folder=folder, environment=settings):
        _p99(url, valkey, folder, cores, failing=0)
        for number in range(rounds):
            kinds = (0, FAILING) if number % 2 == 0 else (FAILING, 0)
            p99 = {failing: _p99(url, valkey, folder, cores, failing=failing) for failing in kinds}
            pairs.append((p99[0], p99[FAILING]))
            shown = f"{p99[0]:.1f} ms alone, {p99[FAILING]:.1f} ms with failing ones"
            print(f"round {number + 1} of {rounds}: p99 {shown}", file=sys.stderr, flush=True)
    more = [beside - alone for alone, beside in pairs]
    alone, beside = (median(column) for column in zip(*pairs, strict=True))
    return [
        f"p99 of {LIVE_PER_SECOND} live events a second, from append to handled: {alone:.1f} ms alone, {beside:.1f} ms "
        f"while {FAILING:,} that fail are tried again for {LIVE_SECONDS:.0f} s; difference in pairs: "
        f"median {median(more):+.1f} ms, {min(more):+.1f} to {max(more):+.1f}; limit {P99_LIMIT_MS:.0f} ms: "
        + ("met" if median(more) <= P99_LIMIT_MS else "missed")
    ]


def _p99(url: str, valkey: Redis, folder: Path, cores: Cores, *, failing: int) -> float:
    """Return the 99th percentile of live events after ``failing`` others have failed once."""
    seconds = WARM_SECONDS + LIVE_SECONDS + (consumption.LONGEST_SECONDS if failing else 0)
    command = sys.executable, "-m", live_entries.__name__, url, str(LIVE_PER_SECOND), str(seconds)
    with run_process(*command, core=cores.rest, folder=folder, environment=environment()):
        time.sleep(WARM_SECONDS)
        if failing:
            _append_failing(valkey, failing)
            _await(valkey, lambda waiting: waiting >= failing)
        live_entries.taken_ms(folder)
        time.sleep(LIVE_SECONDS)
        latencies = live_entries.taken_ms(folder)
    assert len(latencies) >= 0.9 * LIVE_PER_SECOND * LIVE_SECONDS, len(latencies)
    _forget_failing(valkey)
    return latencies[len(latencies) * 99 // 100]


def _append_failing(valkey: Redis, number: int) -> None:
    bodies = (
        orjson.dumps({"message_uuid": f"{live_entries.FAILS}{time.time_ns()}-{index}", "status": "delivered"})
        for index in range(number)
    )
    with valkey.pipeline(transaction=False) as pipe:
        for entry in entries(bodies):
            fields: Any = entry.to_fields()
            pipe.xadd(Shard().stream, fields)
        pipe.execute()


def _count_waiting(valkey: Redis) -> int:
    shard = Shard()
    return int(valkey.zcard(shard.delayed(GROUP))) + int(valkey.xlen(shard.retry(GROUP)))


def _await(valkey: Redis, enough: Callable[[int], bool]) -> None:
    deadline = time.monotonic() + consumption.LONGEST_SECONDS
    while not enough(_count_waiting(valkey)):
        assert time.monotonic() < deadline, f"{_count_waiting(valkey)} wait for another attempt"
        time.sleep(LOOK_SECONDS)


def _forget_failing(valkey: Redis) -> None:
    while _count_waiting(valkey):
        valkey.delete(Shard().delayed(GROUP))
        time.sleep(LOOK_SECONDS)
