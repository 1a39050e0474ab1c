"""How fast a process consumes a stream: it is filled first, and its consumer group watched from outside.

A rate counts from the moment a tenth of the entries is settled to that at which all are, so neither the start of the
process nor its first batches are in it.
"""

import subprocess
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

SKIPPED = 0.1
LOOK_SECONDS = 0.005
LONGEST_SECONDS = 120.0


def fill(server: Redis, stream: str, entries: Iterable[Mapping[Any, Any]]) -> None:
    """Empty the server, and its append-only file, then append the entries."""
    empty(server)
    left = iter(entries)
    while chunk := list(islice(left, 1000)):
        with server.pipeline(transaction=False) as pipe:
            for fields in chunk:
                pipe.xadd(stream, dict(fields))
            pipe.execute()


def empty(server: Redis) -> None:
    """Remove all data, on the disk too."""
    server.flushall()
    server.bgrewriteaof()
    deadline = time.monotonic() + LONGEST_SECONDS
    while _rewriting(server):
        assert time.monotonic() < deadline, "the append-only file's rewrite does not end"
        time.sleep(0.01)


def _rewriting(server: Redis) -> bool:
    state: Any = server.info("persistence")
    return bool(state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"])


def settled(server: Redis, stream: str, group: str) -> int:
    """Return how many entries the group has read and acked; 0 while there is no such group."""
    try:
        groups: Any = server.xinfo_groups(stream)
    except ResponseError:  # no such key
        return 0
    found = next((found for found in groups if found["name"] == group.encode()), None)
    return int(found["entries-read"] or 0) - int(found["pending"]) if found else 0


def rate(server: Redis, stream: str, group: str, child: subprocess.Popen[bytes], *, never: int = 0) -> float:
    """Return the entries settled per second by ``child``, from a tenth of the stream to its end, save what never is."""
    entries = int(server.xlen(stream)) - never
    first, began = _await(server, stream, group, int(entries * SKIPPED), child)
    last, ended = _await(server, stream, group, entries, child)
    assert last > first, "all was settled before the first look"
    return (last - first) / (ended - began)


def _await(server: Redis, stream: str, group: str, wanted: int, child: subprocess.Popen[bytes]) -> tuple[int, float]:
    deadline = time.monotonic() + LONGEST_SECONDS
    while (found := settled(server, stream, group)) < wanted:
        assert child.poll() is None, f"{child.args!r} ended with {child.returncode}"
        assert time.monotonic() < deadline, f"{found} of {wanted} entries settled in {LONGEST_SECONDS:.0f} s"
        time.sleep(LOOK_SECONDS)
    return found, time.perf_counter()
