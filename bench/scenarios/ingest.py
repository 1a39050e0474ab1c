"""Compare ingest with servers that answer a POST without storing it, and with one in Go that stores it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from redis import Redis

from bench.baselines import http_servers
from bench.load.closed_loop import CONNECTIONS, Loaded, run_load
from bench.rig import servers
from bench.rig.consumption import empty
from bench.rig.processes import Cores
from bench.rig.ratio import Ratio, measure_in_turn
from bench.rig.servers import Server
from stream.keys import Shard

LIMIT_SECONDS = 2.0
COST = "CPU us/req"
OURS, SIGNED = "ingest", "ingest, signed"
AIOHTTP, FASTAPI, EXPRESS = "bare aiohttp", "Vonage's FastAPI quickstart", "the Express quickstart"
GO = "50 lines of Go, signed, with one XADD"
COST_LIMITS = (
    (OURS, AIOHTTP, 1.0),
    (SIGNED, AIOHTTP, 1.25),
    (SIGNED, GO, 1.0),
    (SIGNED, FASTAPI, 1 / 4),
    (SIGNED, EXPRESS, 1 / 4),
)
RATE_TARGETS = ((OURS, AIOHTTP, 0.65), (SIGNED, AIOHTTP, 0.75), (OURS, FASTAPI, 2.5), (OURS, EXPRESS, 2.5))


class Measured:
    """One server and the results of its loads."""

    def __init__(self, name: str, server: Server, seconds: float, folder: Path) -> None:
        self._name = name
        self._server = server
        self._seconds = seconds
        self._folder = folder
        self._results: list[Loaded] = []

    def load(self) -> Loaded:
        """Put a load on the server."""
        result = run_load(self._server.port, self._server.path, self._seconds, self._server.pid, self._folder)
        self._results.append(result)
        return result

    def rate(self) -> float:
        """Put a load on the server, and return its answers per second."""
        return self.load().rate

    @property
    def costs_us(self) -> list[float]:
        """CPU microseconds per request, for each load."""
        return [result.server_us for result in self._results]

    def __str__(self) -> str:
        server = median(result.server_busy for result in self._results)
        load = median(result.load_busy for result in self._results)
        return f"{self._name}: its core {server:.0%} busy with it, the other {load:.0%} busy with the load generator"


def compare(folder: Path, cores: Cores, rounds: int, seconds: float, fsync: str) -> tuple[list[Ratio], list[str]]:
    """Return the ratios, and notes on the rig. ``fsync`` is ``appendfsync`` of Valkey."""
    with ExitStack() as stack:
        with http_servers.null(cores.measured, folder) as nothing:
            limit = Measured("nothing", nothing, LIMIT_SECONDS, folder).rate()
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey", fsync))
        running = {
            name: Measured(name, stack.enter_context(server), seconds, folder)
            for name, server in _list_servers(url, cores.measured, folder)
        }
        streams = {OURS: Shard().stream, SIGNED: Shard().stream, GO: http_servers.GO_STREAM}
        rates = measure_in_turn(
            rounds, {name: partial(_rate, each, valkey, streams.get(name)) for name, each in running.items()}
        )
    fastest = max(map(max, rates.values()))
    assert limit > fastest, f"the load generator is the bottleneck: it reaches {limit:,.0f}/s"
    costs = {name: each.costs_us for name, each in running.items()}
    return [
        *(
            Ratio(ours, theirs, COST, limit, costs[ours], costs[theirs], is_cost=True)
            for ours, theirs, limit in COST_LIMITS
            if theirs in running
        ),
        *(
            Ratio(ours, theirs, "req", target, rates[ours], rates[theirs])
            for ours, theirs, target in RATE_TARGETS
            if theirs in running
        ),
    ], [
        f"ingest: appendfsync {fsync}",
        f"load: {CONNECTIONS} connections, at most {limit:,.0f} req/s, {limit / fastest:.1f} times the fastest server",
        *map(str, running.values()),
    ]


def _list_servers(url: str, core: int, folder: Path) -> Iterator[tuple[str, AbstractContextManager[Server]]]:
    """Yield the servers by name. Those of Node.js and Go are left out where these are not installed."""
    yield OURS, servers.ackstream(url, core, folder, signatures="off")
    yield SIGNED, servers.ackstream(url, core, folder, signatures="required")
    yield AIOHTTP, http_servers.aiohttp(core, folder)
    yield FASTAPI, http_servers.fastapi(core, folder)
    if http_servers.has_node():
        yield EXPRESS, http_servers.express(core, folder)
    if http_servers.has_go():
        yield GO, http_servers.go(core, folder, url)


def _rate(server: Measured, valkey: Redis, stream: str | None) -> float:
    """Return the answers per second under load. Each 200 must have an entry, if the server has a stream."""
    if stream is None:
        return server.rate()
    empty(valkey)
    result = server.load()
    entries = valkey.xlen(stream)
    assert entries == result.answered, f"{result.answered} answers of 200, {entries} entries"
    empty(valkey)
    return result.rate
