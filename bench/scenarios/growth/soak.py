"""Watch the memory of ingest, a worker and Valkey under a steady load: ``make soak``, for 20 minutes.

Signed webhooks come at a fixed rate; the worker stores them in SQLite and calls a function for each. Each status is
new, so anything that is kept for each message or event grows until the end, unless it has a limit. These limits are
reached in the first quarter, which is not judged: the stream keeps one minute of entries, the function's group keeps
DEDUP_ENTRIES marks, and SQLite caches pages. Each minute prints the resident memory of each process, and the bytes that
Valkey has allocated: its resident memory also has gaps, which would hide small growth. The exit code is 1 if one of
them grows by more than MOST_GROWTH from the second to the last quarter. The gaps stop growing after about three times
the retention.

The temporary folder needs about 2 GB for 20 minutes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis

from bench.handlers import noop
from bench.load.steady_rate import run_load
from bench.rig import servers
from bench.rig.consumption import await_settled, count_settled
from bench.rig.databases import Sqlite
from bench.rig.figures import Curve
from bench.rig.processes import Cores, environment, program, resident_memory_bytes, run_process
from bench.rig.results import Result, write_result
from stream.keys import Shard

DEDUP_ENTRIES = 60_000
"""Also more statuses than fill the page cache of SQLite (worker.store.database)."""
GROUPS = {"store": "store", "function": f"function={noop.__name__}:one"}
SETTINGS = {"retention": "1m", "dedup_entries": str(DEDUP_ENTRIES)}
MOST_GROWTH = 0.05
LOOKS = 12
"""Looks at the memory in a minute; the figure of a minute is their median."""
QUARTERS = 4
WARM_UP_MINUTES = 4
"""The shortest first quarter: four times the retention."""
MEGABYTE = 1_000_000

ALLOCATED = "allocated by Valkey"

Gauges = dict[str, Callable[[], int]]
"""Functions that return the bytes of each process."""
Memory = dict[str, list[float]]
"""The megabytes of each process, minute by minute."""


def watch(folder: Path, cores: Cores, minutes: int, rate: int) -> Memory:
    """Run the load, and return the memory."""
    with ExitStack() as stack:
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey", "everysec"))
        valkey.config_set("auto-aof-rewrite-percentage", 100)  # else the file would grow
        ingest = stack.enter_context(servers.ackstream(url, cores.measured, folder, signatures="required"))
        database, data = Sqlite(folder).fresh(), str(folder / "data")
        settings = environment(redis_url=url, database_url=database, data=data, **SETTINGS)
        handlers = [argument for handler in GROUPS.values() for argument in ("--handler", handler)]
        command = program("ackstream"), "worker", *handlers
        worker = stack.enter_context(run_process(*command, core=cores.measured, folder=folder, environment=settings))
        pids = {"ingest": ingest.pid, "worker": worker.pid, "Valkey": int(valkey.info("server")["process_id"])}
        gauges: Gauges = {name: partial(resident_memory_bytes, pid) for name, pid in pids.items()}
        gauges[ALLOCATED] = partial(read_allocated_bytes, valkey)
        with run_load(ingest.port, ingest.path, rate, cores.rest, folder, statuses=0) as load:
            memory = _watch_minutes(gauges, minutes, valkey)
            answers = len(load.samples())
        assert answers >= QUARTERS * DEDUP_ENTRIES, f"{answers:,} webhooks are too few to reach all limits in time"
        await_settled(valkey, Shard().stream, GROUPS, worker, answers)
        settled = {group: count_settled(valkey, Shard().stream, group) for group in GROUPS}
    # On a busy machine Redis may confirm a batch too late: its entries are then also spooled, and so come twice.
    assert min(settled.values()) >= answers, f"{answers} answers of 200; settled: {settled}"
    print(f"{answers:,} webhooks answered, stored and handled")
    return memory


def read_allocated_bytes(valkey: Redis) -> int:
    """Return the bytes that Valkey has allocated."""
    memory: Any = valkey.info("memory")
    return int(memory["used_memory"])


def _watch_minutes(gauges: Gauges, minutes: int, valkey: Redis) -> Memory:
    """Look at the memory LOOKS times a minute. Print and return a figure for each minute."""
    memory: Memory = defaultdict(list)
    for minute in range(1, minutes + 1):
        looks = defaultdict(list)
        for _ in range(LOOKS):
            time.sleep(60 / LOOKS)
            for name, read_bytes in gauges.items():
                looks[name].append(read_bytes() / MEGABYTE)
        for name, each in looks.items():
            memory[name].append(median(each))
        shown = ", ".join(f"{name} {each[-1]:.1f} MB" for name, each in memory.items())
        print(f"minute {minute}: {shown}; {valkey.xlen(Shard().stream):,} entries", flush=True)
    return memory


def compare_quarters(megabytes: Sequence[float]) -> tuple[float, float]:
    """Return the megabytes in the second and in the last quarter."""
    quarter = len(megabytes) // QUARTERS
    return median(megabytes[quarter : 2 * quarter]), median(megabytes[-quarter:])


def describe_growth(memory: Mapping[str, Sequence[float]]) -> str:
    """Return how much each process grew, for people."""
    quarters = {name: compare_quarters(each) for name, each in memory.items()}
    growths = [
        f"{name} {last - second:+.1f} MB ({last / second - 1:+.1%}, {second:.1f} to {last:.1f} MB)"
        for name, (second, last) in quarters.items()
    ]
    return f"growth from the second to the last quarter: {', '.join(growths)}"


def find_growing(memory: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the processes that grew by more than MOST_GROWTH."""
    quarters = {name: compare_quarters(each) for name, each in memory.items()}
    return [name for name, (second, last) in quarters.items() if last > second * (1 + MOST_GROWTH)]


def main() -> None:
    """Watch, print, and compare the quarters."""
    parser = argparse.ArgumentParser(prog="bench.scenarios.growth.soak", description="Watch the memory under load.")
    parser.add_argument("--minutes", type=int, default=20, help="at least 16 (default 20)")
    parser.add_argument("--rate", type=int, default=500, help="webhooks a second (default 500)")
    parser.add_argument("--write", action="store_true", help="also write the curves for docs/benchmarks.md")
    arguments = parser.parse_args()
    least = QUARTERS * max(WARM_UP_MINUTES, ceil(DEDUP_ENTRIES / (60 * arguments.rate)))
    if arguments.minutes < least:
        parser.error(
            f"give it at least {least} minutes at {arguments.rate} webhooks a second: the first quarter has to reach "
            f"all limits, which takes {WARM_UP_MINUTES} minutes and {DEDUP_ENTRIES:,} webhooks"
        )
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as name:
        memory = watch(Path(name), cores, arguments.minutes, arguments.rate)
    growth = describe_growth(memory)
    print(f"{growth}; at most {MOST_GROWTH:.0%}")
    if arguments.write:
        lines = {
            name: {float(minute): [value] for minute, value in enumerate(each, 1)}
            for name, each in memory.items()
            if name != ALLOCATED
        }
        load = f"{arguments.rate:,} signed webhooks/s for {arguments.minutes} minutes, `store` on SQLite and a function"
        notes = [f"{load}; each status is new", growth]
        write_result("soak", Result(notes=notes, curves=[Curve("minutes", "MB resident", lines)]), cores)
    if growing := find_growing(memory):
        sys.exit(f"the memory grows: {', '.join(growing)}")


if __name__ == "__main__":
    main()
