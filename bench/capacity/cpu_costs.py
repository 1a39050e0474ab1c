"""Measure the CPU time of ingest for a request, of workers for an event, and of Valkey and PostgreSQL for both."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis

from bench.handlers import noop
from bench.load.closed_loop import run_load
from bench.rig import consumption, servers
from bench.rig.databases import Postgresql, Sqlite, postgresql
from bench.rig.processes import Cores, environment, peak_memory_bytes, program, run_process
from bench.rig.statuses import signed_entries, sized_payloads
from stream.keys import Shard

SIZE = 560
ENTRIES = 30_000
GROUP = "cost"
SECONDS = 2.0
SIGNATURES = ("off", "required")
HANDLERS = {
    "store_postgresql": "store",
    "store_sqlite": "store",
    "one_event": f"{noop.__name__}:one",
    "list": f"{noop.__name__}:many",
}

Costs = dict[str, list[float]]


def measure_ingest(folder: Path, cores: Cores, rounds: int) -> dict[str, Any]:
    """Return the CPU microseconds of a request, and the memory of a process. Valkey fsyncs once a second.

    The requests come in waves, so that the batches are those of full load on a busy machine too.
    """
    costs: Costs = {}
    with servers.valkey(folder / "valkey", "everysec") as (url, valkey):
        for _ in range(rounds):
            for signatures in SIGNATURES:
                consumption.empty(valkey)
                with servers.ackstream(url, cores.measured, folder, signatures=signatures) as server:
                    before = _redis_seconds(valkey)
                    load = run_load(server.port, server.path, SECONDS, server.pid, folder, size=SIZE, waves=True)
                    redis_us = (_redis_seconds(valkey) - before) / load.answered * 1e6
                    add(costs, {f"{signatures}_us": load.server_us, "append_us": redis_us})
                    add(costs, {"memory_bytes": peak_memory_bytes(server.pid)})
    return summarize(costs)


def measure_workers(folder: Path, cores: Cores, rounds: int) -> dict[str, Any]:
    """Return the CPU microseconds of an event by handler, those of the servers, and the memory of a process."""
    costs: Costs = {}
    with (
        servers.valkey(folder / "valkey", "everysec") as (url, valkey),
        postgresql(folder) as server,
    ):
        databases: dict[str, Postgresql | Sqlite] = {"store_postgresql": server, "store_sqlite": Sqlite(folder)}
        consume = WorkerCosts(url, valkey, folder, cores.measured)
        for _ in range(rounds):
            for name in HANDLERS:
                add(costs, consume.measure(name, databases.get(name)))
    return summarize(costs)


class WorkerCosts:
    """A stream that one worker after the other consumes."""

    def __init__(self, url: str, valkey: Redis, folder: Path, core: int) -> None:
        self._url = url
        self._valkey = valkey
        self._folder = folder
        self._core = core
        self._entries = [entry.to_fields() for entry in signed_entries(sized_payloads(ENTRIES, SIZE))]

    def measure(self, name: str, database: Postgresql | Sqlite | None) -> Mapping[str, float]:
        """Return the costs of one handler."""
        settings = {"redis_url": self._url, "data": str(self._folder / "data")}
        if database is not None:
            settings["database_url"] = database.fresh()
        consumption.fill(self._valkey, Shard().stream, self._entries)
        before = _redis_seconds(self._valkey)
        command = program("ackstream"), "worker", "--handler", f"{GROUP}={HANDLERS[name]}"
        database_seconds = database.cpu_seconds() if isinstance(database, Postgresql) else 0.0
        with run_process(*command, core=self._core, folder=self._folder, environment=environment(**settings)) as child:
            cost = consumption.cost_us(self._valkey, Shard().stream, GROUP, child)
            redis_us = (_redis_seconds(self._valkey) - before) / ENTRIES * 1e6
            costs = {f"{name}_us": cost, f"{name}_redis_us": redis_us, "memory_bytes": peak_memory_bytes(child.pid)}
            if isinstance(database, Postgresql):
                costs["postgresql_us"] = (database.cpu_seconds() - database_seconds) / ENTRIES * 1e6
        return costs


def add(costs: Costs, measured: Mapping[str, float]) -> None:
    """Add the figures of a round."""
    for name, value in measured.items():
        costs.setdefault(name, []).append(value)


def summarize(costs: Costs) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: median(values) for name, values in costs.items()}


def _redis_seconds(valkey: Redis) -> float:
    """Return the CPU seconds of Valkey's main thread."""
    cpu: Any = valkey.info("cpu")
    return float(cpu["used_cpu_user_main_thread"]) + float(cpu["used_cpu_sys_main_thread"])
