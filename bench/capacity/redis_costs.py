"""Measure the bytes that Valkey needs for an entry, a dead letter, a delayed retry and a dedup mark."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from redis import Redis

from bench.handlers import noop
from bench.rig import consumption, servers
from bench.rig.processes import Cores, environment, program, run_process
from bench.rig.statuses import signed_entries, sized_payloads
from stream.keys import Shard

SIZES = (400, 800, 1600, 3200, 6400, 12_800)
ENTRIES = 6_000
FAILED_BYTES = 800
GROUP = "failing"
CHUNK = 500

Sizes = list[tuple[int, float]]


def measure(folder: Path, cores: Cores) -> dict[str, Any]:
    """Return the bytes by size of the body, of a mark, and those that a failed entry needs more than its original."""
    with servers.valkey(folder / "valkey", "everysec") as (url, valkey):
        memory: Sizes = []
        file: Sizes = []
        for size in SIZES:
            before = used_bytes(valkey), _file_bytes(valkey)
            append(valkey, ENTRIES, size)
            memory.append((size, (used_bytes(valkey) - before[0]) / ENTRIES))
            file.append((size, (_file_bytes(valkey) - before[1]) / ENTRIES))
            consumption.empty(valkey)
        failed = {}
        for function, key in (("fail_some", Shard().delayed(GROUP)), ("discard_some", Shard().dead(GROUP))):
            append(valkey, ENTRIES, FAILED_BYTES)
            handler = f"{GROUP}={noop.__name__}:{function}#base=3600"
            settings = environment(redis_url=url, data=str(folder / "data"))
            command = program("ackstream"), "worker", "--handler", handler
            with run_process(*command, core=cores.measured, folder=folder, environment=settings) as child:
                consumption.rate(valkey, Shard().stream, GROUP, child)
                failed[function] = _bytes_each(valkey, key)
                marks = _bytes_each(valkey, Shard().handled(GROUP))
            consumption.empty(valkey)
    entry = dict(memory)[FAILED_BYTES]
    return {
        "entry_bytes": memory,
        "file_bytes": file,
        "delayed_extra_bytes": failed["fail_some"] - entry,
        "dead_letter_extra_bytes": failed["discard_some"] - entry,
        "mark_bytes": marks,
    }


def append(valkey: Redis, number: int, size: int, first: int = 0, shards: Sequence[Shard] = (Shard(),)) -> None:
    """Append signed statuses of this size, from the place ``first`` to ``number``, to one shard after the other."""
    entries = [entry.to_fields() for entry in signed_entries(sized_payloads(number, size))]
    for start, shard in zip(range(first, number, CHUNK), cycle(shards), strict=False):
        with valkey.pipeline(transaction=False) as pipe:
            for fields in entries[start : min(start + CHUNK, number)]:
                pipe.xadd(shard.stream, dict[Any, Any](fields))
            pipe.execute()


def used_bytes(valkey: Redis) -> int:
    """Return the bytes of the data, without the buffers of clients and of the append-only file."""
    stats: Any = valkey.memory_stats()
    return int(stats["dataset.bytes"])


def _file_bytes(valkey: Redis) -> int:
    state: Any = valkey.info("persistence")
    return int(state["aof_current_size"])


def _bytes_each(valkey: Redis, key: str) -> float:
    """Return the bytes of the key for each of its members."""
    used: Any = valkey.memory_usage(key, samples=0)
    count: Any = valkey.xlen(key) if valkey.type(key) == b"stream" else valkey.zcard(key)
    return float(used) / int(count)
