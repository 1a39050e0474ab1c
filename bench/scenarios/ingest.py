"""Compare ingest with servers that answer a POST without storing it."""

from contextlib import ExitStack
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
        ackstream, signed, aiohttp, fastapi = (
            Measured(name, stack.enter_context(server), seconds, folder)
            for name, server in (
                ("ackstream ingest", servers.ackstream(url, cores.measured, folder, signatures="off")),
                ("signed ingest", servers.ackstream(url, cores.measured, folder, signatures="required")),
                ("bare aiohttp", http_servers.aiohttp(cores.measured, folder)),
                ("FastAPI quickstart", http_servers.fastapi(cores.measured, folder)),
            )
        )
        rates = measure_in_turn(
            rounds,
            {
                "ackstream ingest": lambda: _kept(ackstream, valkey),
                "signed ingest": lambda: _kept(signed, valkey),
                "bare aiohttp": aiohttp.rate,
                "FastAPI quickstart": fastapi.rate,
            },
        )
    fastest = max(map(max, rates.values()))
    assert limit > fastest, f"the load generator is the bottleneck: it reaches {limit:,.0f}/s"
    ours = rates["ackstream ingest"]
    return [
        Ratio("ingest", "bare aiohttp", COST, 1.20, ackstream.costs_us, aiohttp.costs_us, is_cost=True),
        Ratio("ingest, signed", "bare aiohttp", COST, 1.55, signed.costs_us, aiohttp.costs_us, is_cost=True),
        Ratio("ingest", "bare aiohttp", "req", 0.65, ours, rates["bare aiohttp"]),
        Ratio("ingest, signed", "bare aiohttp", "req", 0.75, rates["signed ingest"], rates["bare aiohttp"]),
        Ratio("ingest", "Vonage's FastAPI quickstart", "req", 2.5, ours, rates["FastAPI quickstart"]),
    ], [
        f"ingest: appendfsync {fsync}",
        f"load: {CONNECTIONS} connections, at most {limit:,.0f} req/s, {limit / fastest:.1f} times the fastest server",
        *map(str, (ackstream, signed, aiohttp, fastapi)),
    ]


def _kept(ackstream: Measured, valkey: Redis) -> float:
    """Put a load on ingest; each 200 must have an entry on the stream."""
    empty(valkey)
    result = ackstream.load()
    entries = valkey.xlen(Shard().stream)
    assert entries == result.answered, f"{result.answered} answers of 200, {entries} entries"
    empty(valkey)
    return result.rate
