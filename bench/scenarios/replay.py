"""Measure a replay during live traffic: the steadiness of its rate, and the delay of live events.

Each round is a pair: live entries alone, and live entries while old ones are replayed into the same group.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from redis import Redis

from bench.load import live_entries
from bench.rig import consumption, servers
from bench.rig.payloads import payloads
from bench.rig.processes import Cores, environment, program, run_process
from bench.rig.statuses import entries
from console.queries.replays import ReplayRequest, plan, start
from stream.keys import Shard
from stream.redis.client import client
from worker.group.group_ref import GroupRef
from worker.replay.entry_filter import EntryFilter
from worker.replay.job import Place, State
from worker.replay.repository import Replays

GROUP = "noted"
LIVE_PER_SECOND = 500
REPLAYED_PER_SECOND = 2000
QUIET_SECONDS = 20.0
MORE_SECONDS = 3.0
LOOK_SECONDS = 0.1
WINDOW_SECONDS = 5.0
DEVIATION = 0.05
P99_LIMIT_MS = 20.0

Looks = Sequence[tuple[float, int]]
"""When, and how many copies there were."""


@dataclass(slots=True)
class ReplayResults:
    """The results of the rounds."""

    quiet_ms: list[float] = field(default_factory=list)
    beside_ms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    windows: list[float] = field(default_factory=list)

    def notes(self, number: int) -> list[str]:
        """Return the lines to print."""
        more = [busy - quiet for busy, quiet in zip(self.beside_ms, self.quiet_ms, strict=True)]
        worst = max(abs(rate / REPLAYED_PER_SECOND - 1) for rate in self.rates)
        is_steady, quick = worst <= DEVIATION, median(more) <= P99_LIMIT_MS
        rate = f"{median(self.rates):,.0f}/s, at most {worst:.1%} off"
        windows = f"in {WINDOW_SECONDS:.0f} s {min(self.windows):,.0f} to {max(self.windows):,.0f}/s"
        p99 = f"{median(self.quiet_ms):.1f} ms without, {median(self.beside_ms):.1f} ms with the replay"
        pairs = f"difference in pairs: median {median(more):+.1f} ms, {min(more):+.1f} to {max(more):+.1f}"
        return [
            f"replay: {number:,} entries at {REPLAYED_PER_SECOND:,}/s with {LIVE_PER_SECOND:,} live ones a second",
            f"rate: {rate}: limit {DEVIATION:.0%}: {'met' if is_steady else 'missed'}; {windows}",
            f"p99 of the live, from append to handled: {p99}; {pairs}; limit {P99_LIMIT_MS:.0f} ms: "
            + ("met" if quick else "missed"),
        ]


def compare(folder: Path, cores: Cores, rounds: int, number: int) -> list[str]:
    """Return the lines to print for replays of ``number`` entries; every second pair runs in the opposite order."""
    results = ReplayResults()
    with ExitStack() as stack:
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey"))
        consumption.fill(valkey, Shard().stream, (entry.to_fields() for entry in entries(payloads(number))))
        old = EntryFilter(until_ms=int(time.time() * 1000))
        command = (
            program("ackstream"),
            "worker",
            "--handler",
            f"{GROUP}={live_entries.HANDLER}",
        )
        settings = environment(redis_url=url, data=str(folder / "data"), retention="off")
        stack.enter_context(run_process(*command, core=cores.measured, folder=folder, environment=settings))
        _await_settled(valkey)
        _live(url, cores, folder, MORE_SECONDS)
        for round_number in range(rounds):
            for replayed in (False, True) if round_number % 2 == 0 else (True, False):
                if replayed:
                    _beside(results, url, cores, folder, number, old)
                else:
                    results.quiet_ms.append(_p99(_live(url, cores, folder, QUIET_SECONDS)))
                _await_settled(valkey)
            quiet_ms, beside_ms = results.quiet_ms[-1], results.beside_ms[-1]
            shown = f"{quiet_ms:.1f} ms without, {beside_ms:.1f} ms with the replay, {results.rates[-1]:,.0f}/s"
            print(f"round {round_number + 1} of {rounds}: {shown}", file=sys.stderr, flush=True)
    return results.notes(number)


def _beside(results: ReplayResults, url: str, cores: Cores, folder: Path, number: int, selection: EntryFilter) -> None:
    seconds = number / REPLAYED_PER_SECOND + MORE_SECONDS
    with _run_live_load(url, cores, folder, seconds) as child:
        looks = asyncio.run(_replay(url, selection, number))
        child.wait(seconds + MORE_SECONDS)
    results.beside_ms.append(_p99(live_entries.taken_ms(folder)))
    results.rates.append(_rate(looks[0], looks[-1]))
    results.windows += list(_windows(looks))


async def _replay(url: str, selection: EntryFilter, number: int) -> Looks:
    """Replay the selection, and return the samples from a twentieth of it to its end."""
    request = ReplayRequest(Shard(), GROUP, Place.STREAM, selection, REPLAYED_PER_SECOND, None)
    server = client(url)
    try:
        replay = await start(server, [(request, await plan(server, request))])
        assert replay.total == number, replay.total
        replays, looks = Replays(GroupRef(server, Shard(), GROUP)), []
        while (job := await replays.find(replay.id)) is not None and job.state is State.RUNNING:
            looks.append((time.monotonic(), job.done))
            await asyncio.sleep(LOOK_SECONDS)
        assert job is not None
        assert (job.state, job.done) == (State.DONE, number)
    finally:
        await server.aclose()
    return [look for look in looks if look[1] >= number // 20]


def _windows(looks: Looks) -> list[float]:
    """Return the rates of all times of WINDOW_SECONDS."""
    step = round(WINDOW_SECONDS / LOOK_SECONDS)
    return [_rate(*pair) for pair in zip(looks, looks[step:], strict=False)] or [_rate(looks[0], looks[-1])]


def _rate(first: tuple[float, int], last: tuple[float, int]) -> float:
    return (last[1] - first[1]) / (last[0] - first[0])


def _p99(taken_ms: Sequence[float]) -> float:
    return taken_ms[len(taken_ms) * 99 // 100]


def _run_live_load(
    url: str, cores: Cores, folder: Path, seconds: float
) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    command = sys.executable, "-m", live_entries.__name__, url, str(LIVE_PER_SECOND), str(seconds)
    return run_process(*command, core=cores.rest, folder=folder, environment=environment())


def _live(url: str, cores: Cores, folder: Path, seconds: float) -> list[float]:
    """Append live entries alone, and return how long they took."""
    with _run_live_load(url, cores, folder, seconds) as child:
        assert child.wait(seconds + consumption.LONGEST_SECONDS) == 0
    time.sleep(1)
    latencies = live_entries.taken_ms(folder)
    assert len(latencies) == int(LIVE_PER_SECOND * seconds), len(latencies)
    return latencies


def _await_settled(valkey: Redis) -> None:
    deadline, stream = time.monotonic() + consumption.LONGEST_SECONDS, Shard().stream
    while consumption.count_settled(valkey, stream, GROUP) < valkey.xlen(stream) or valkey.xlen(Shard().replay(GROUP)):
        assert time.monotonic() < deadline, "not all is settled in time"
        time.sleep(LOOK_SECONDS)
