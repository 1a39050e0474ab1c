"""Measure how fast a process consumes a stream that was filled before, by watching its consumer group.

The rate counts from a tenth of the entries settled to all entries settled, so the start of the process and its first
batches are left out.
"""

import subprocess
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from bench.rig.processes import cpu_seconds

SKIPPED = 0.1
LOOK_SECONDS = 0.005
SELDOM_SECONDS = 0.1
"""The time between two looks while CPU time is measured: a look costs the server time too."""
LONGEST_SECONDS = 120.0


def fill(server: Redis, stream: str, entries: Iterable[Mapping[Any, Any]]) -> None:
    """Empty the server and its append-only file, then append the entries."""
    empty(server)
    remaining = iter(entries)
    while chunk := list(islice(remaining, 1000)):
        with server.pipeline(transaction=False) as pipe:
            for fields in chunk:
                pipe.xadd(stream, dict(fields))
            pipe.execute()


def empty(server: Redis) -> None:
    """Remove all data from memory and disk."""
    server.flushall()
    server.bgrewriteaof()
    await_rewritten(server)


def await_rewritten(server: Redis) -> None:
    """Return when no rewrite of the append-only file is under way."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while _is_rewriting(server):
        assert time.monotonic() < deadline, "the append-only file's rewrite does not end"
        time.sleep(0.01)


def _is_rewriting(server: Redis) -> bool:
    state: Any = server.info("persistence")
    return bool(state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"])


def count_settled(server: Redis, stream: str, group: str) -> int:
    """Return how many entries the group has read and acked; 0 until the group exists."""
    try:
        groups: Any = server.xinfo_groups(stream)
    except ResponseError:  # no such key
        return 0
    status = next((info for info in groups if info["name"] == group.encode()), None)
    return int(status["entries-read"] or 0) - int(status["pending"]) if status else 0


def rate(server: Redis, stream: str, group: str, child: subprocess.Popen[bytes], *, never: int = 0) -> float:
    """Return the entries per second that ``child`` settles; ``never`` entries stay pending for good."""
    entries = int(server.xlen(stream)) - never
    first, began = _await(server, stream, group, int(entries * SKIPPED), child)
    last, ended = _await(server, stream, group, entries, child)
    assert last > first, "all was settled before the first look"
    return (last - first) / (ended - began)


def cost_us(
    server: Redis, stream: str, group: str, child: subprocess.Popen[bytes], entries: int | None = None
) -> float:
    """Return the CPU microseconds of ``child`` for each entry that it settles: all of the stream, or this many."""
    entries = entries or int(server.xlen(stream))
    first, _ = _await(server, stream, group, int(entries * SKIPPED), child, SELDOM_SECONDS)
    before = cpu_seconds(child.pid)
    last, _ = _await(server, stream, group, entries, child, SELDOM_SECONDS)
    return (cpu_seconds(child.pid) - before) / (last - first) * 1e6


def await_groups(
    server: Redis, stream: str, groups: Iterable[str], child: subprocess.Popen[bytes], *, consumers: int = 0
) -> None:
    """Return when the groups exist, each with at least this number of consumers."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not all(_has_group(server, stream, group, consumers) for group in groups):
        assert child.poll() is None, f"{child.args!r} ended with {child.returncode}"
        assert time.monotonic() < deadline, f"no groups in {LONGEST_SECONDS:.0f} s"
        time.sleep(LOOK_SECONDS)


def _has_group(server: Redis, stream: str, group: str, consumers: int) -> bool:
    try:
        return len(server.xinfo_consumers(stream, group)) >= consumers
    except ResponseError:  # no such key, or no such group
        return False


def await_settled(
    server: Redis, stream: str, groups: Iterable[str], child: subprocess.Popen[bytes], entries: int | None = None
) -> None:
    """Return when the groups have settled all entries of the stream, or this many."""
    entries = entries or int(server.xlen(stream))
    for group in groups:
        _await(server, stream, group, entries, child, SELDOM_SECONDS)


def _await(
    server: Redis,
    stream: str,
    group: str,
    target: int,
    child: subprocess.Popen[bytes],
    look_seconds: float = LOOK_SECONDS,
) -> tuple[int, float]:
    deadline = time.monotonic() + LONGEST_SECONDS
    while (count := count_settled(server, stream, group)) < target:
        assert child.poll() is None, f"{child.args!r} ended with {child.returncode}"
        assert time.monotonic() < deadline, f"{count} of {target} entries settled in {LONGEST_SECONDS:.0f} s"
        time.sleep(look_seconds)
    return count, time.perf_counter()
