"""Measure the CPU time of ingest for a request, of workers for an event, and of Valkey and PostgreSQL for both."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis

from bench.capacity.redis_costs import append
from bench.handlers import noop
from bench.load.closed_loop import run_load
from bench.rig import consumption, servers
from bench.rig.databases import Postgresql, Sqlite, postgresql
from bench.rig.processes import Cores, cpu_seconds, environment, peak_memory_bytes, program, run_process
from bench.rig.statuses import signed_entries, sized_payloads
from stream.keys import Shard

SIZES = (560, 3_200)
ENTRIES = 10_000
GROUP = "cost"
SECONDS = 2.0
SIGNATURES = ("off", "required")
STORES = {"store_postgresql": "store", "store_sqlite": "store"}
FUNCTIONS = {"one_event": f"{noop.__name__}:one", "list": f"{noop.__name__}:many"}
MEMORY = "memory_bytes"
WARM_UP = 2_000

Costs = dict[str, dict[int, list[float]]]
"""The figures of all rounds, by name and size of the body."""


def measure_ingest(folder: Path, cores: Cores, rounds: int) -> dict[str, Any]:
    """Return the CPU microseconds of a request by its size, and the memory of a process. Valkey fsyncs once a second.

    The requests come in waves, so that the batches are those of full load on a busy machine too.
    """
    costs: Costs = {}
    with servers.valkey(folder / "valkey", "everysec") as (url, valkey):
        for _, size, signatures in product(range(rounds), SIZES, SIGNATURES):
            consumption.empty(valkey)
            with servers.ackstream(url, cores.measured, folder, signatures=signatures) as server:
                before = _redis_seconds(valkey)
                load = run_load(server.port, server.path, SECONDS, server.pid, folder, size=size, waves=True)
                redis_us = (_redis_seconds(valkey) - before) / load.answered * 1e6
                memory = peak_memory_bytes(server.pid)
            add(costs, size, {f"{signatures}_us": load.server_us, "append_us": redis_us, MEMORY: memory})
    return summarize(costs)


def measure_workers(handlers: Mapping[str, str], folder: Path, cores: Cores, rounds: int) -> dict[str, Any]:
    """Return the CPU microseconds of an event by handler and size, those of the servers, and a process's memory."""
    costs: Costs = {}
    with (
        servers.valkey(folder / "valkey", "everysec") as (url, valkey),
        postgresql(folder) as server,
    ):
        databases: dict[str, Postgresql | Sqlite] = {"store_postgresql": server, "store_sqlite": Sqlite(folder)}
        worker = WorkerCosts(url, valkey, folder, cores.measured)
        for _, size, name in product(range(rounds), SIZES, handlers):
            add(costs, size, worker.measure(name, handlers[name], size, databases.get(name)))
    return summarize(costs)


class WorkerCosts:
    """A stream that one worker after the other consumes."""

    def __init__(self, url: str, valkey: Redis, folder: Path, core: int) -> None:
        self._url = url
        self._valkey = valkey
        self._folder = folder
        self._core = core

    def measure(self, name: str, handler: str, size: int, database: Postgresql | Sqlite | None) -> Mapping[str, float]:
        """Return the costs of one handler."""
        settings = {"redis_url": self._url, "data": str(self._folder / "data")}
        if database is not None:
            settings["database_url"] = database.fresh()
        entries = signed_entries(sized_payloads(ENTRIES, size))
        consumption.fill(self._valkey, Shard().stream, (entry.to_fields() for entry in entries))
        before = _redis_seconds(self._valkey)
        database_seconds = database.cpu_seconds() if isinstance(database, Postgresql) else 0.0
        command = program("ackstream"), "worker", "--handler", f"{GROUP}={handler}"
        with run_process(*command, core=self._core, folder=self._folder, environment=environment(**settings)) as child:
            cost = consumption.cost_us(self._valkey, Shard().stream, GROUP, child)
            redis_us = (_redis_seconds(self._valkey) - before) / ENTRIES * 1e6
            costs = {f"{name}_us": cost, f"{name}_redis_us": redis_us, MEMORY: peak_memory_bytes(child.pid)}
            if isinstance(database, Postgresql):
                costs["postgresql_us"] = (database.cpu_seconds() - database_seconds) / ENTRIES * 1e6
        return costs


def measure_backlog(
    valkey: Redis,
    children: Sequence[subprocess.Popen[bytes]],
    groups: Sequence[str],
    number: int,
    size: int,
    shards: Sequence[Shard] = (Shard(),),
) -> float:
    """Return the CPU microseconds of workers for a status of a backlog, all groups together, after a warm-up.

    The streams are empty before. The workers are stopped while the backlog is appended, so that they take full batches.
    """
    for shard in shards:
        consumption.await_groups(valkey, shard.stream, groups, children[0], consumers=len(children))
    append(valkey, WARM_UP, size, shards=shards)
    _await_settled(valkey, children[0], groups, shards)
    for child in children:
        child.send_signal(signal.SIGSTOP)
    append(valkey, number, size, WARM_UP, shards)
    started = sum(cpu_seconds(child.pid) for child in children)
    for child in children:
        child.send_signal(signal.SIGCONT)
    _await_settled(valkey, children[0], groups, shards)
    used = sum(cpu_seconds(child.pid) for child in children) - started
    return used / (number - WARM_UP) * 1e6


def _await_settled(
    valkey: Redis, child: subprocess.Popen[bytes], groups: Sequence[str], shards: Sequence[Shard]
) -> None:
    for shard in shards:
        consumption.await_settled(valkey, shard.stream, groups, child)


def add(costs: Costs, size: int, measured: Mapping[str, float]) -> None:
    """Add the figures of a round."""
    for name, value in measured.items():
        costs.setdefault(name, {}).setdefault(size, []).append(value)


def summarize(costs: Costs) -> dict[str, Any]:
    """Return the medians of each figure by size, and the greatest memory."""
    curves = {
        name: [(size, median(values)) for size, values in by_size.items()]
        for name, by_size in costs.items()
        if name != MEMORY
    }
    return {**curves, MEMORY: max(value for values in costs[MEMORY].values() for value in values)}


def _redis_seconds(valkey: Redis) -> float:
    """Return the CPU seconds of Valkey's main thread."""
    cpu: Any = valkey.info("cpu")
    return float(cpu["used_cpu_user_main_thread"]) + float(cpu["used_cpu_sys_main_thread"])
