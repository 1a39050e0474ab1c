"""Compare the worker and its ``store`` handler with the SQL alone and with a FastStream subscriber."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import orjson
from redis import Redis

from bench.baselines import faststream_subscriber, sql_store
from bench.rig import consumption, servers
from bench.rig.databases import Databases, Sqlite, postgresql, rows
from bench.rig.payloads import payloads
from bench.rig.processes import Cores, environment, program, run_process
from bench.rig.ratio import Measure, Ratio, measure_in_turn
from bench.rig.statuses import entries
from stream.keys import Shard

RIVALS_SHARE = 4  # the others take a fourth of the entries: they are slow, and their rate does not depend on the number
SQL_SHARES = {"SQLite": 0.45, "PostgreSQL": 0.6}  # the least rate of the worker, as a share of its SQL alone

BARE_BATCH = 1000


class Worker:
    """`ackstream worker --handler store`, one process on one core, with default settings."""

    def __init__(self, url: str, valkey: Redis, folder: Path, core: int, number: int) -> None:
        self._url = url
        self._valkey = valkey
        self._folder = folder
        self._core = core
        bodies = payloads(number)
        self._entries = [entry.to_fields() for entry in entries(bodies)]
        self._expected = number, len({orjson.loads(body)["message_uuid"] for body in bodies})

    def rate(self, databases: Databases) -> float:
        """Return the events per second that the worker stores, from the stream into an empty database."""
        database, stream = databases.fresh(), Shard().stream
        self._valkey.config_set("appendfsync", "always")
        consumption.fill(self._valkey, stream, self._entries)
        settings = environment(redis_url=self._url, database_url=database, data=str(self._folder / "data"))
        command = program("ackstream"), "worker", "--handler", "store"
        with run_process(*command, core=self._core, folder=self._folder, environment=settings) as child:
            rate = consumption.rate(self._valkey, stream, "store", child)
        self._check(database)
        return rate

    def bare_rate(self, databases: Databases, bare: subprocess.Popen[bytes]) -> float:
        """Return the events per second of the same statements alone, into an empty database."""
        database = databases.fresh()
        rate = sql_store.ask(bare, sql_store.STATEMENTS, database)
        self._check(database)
        return rate

    def _check(self, database: str) -> None:
        counts = rows(database)
        assert counts == self._expected, f"events and messages: {counts}, expected {self._expected}"


def rival_rate(
    rival: ModuleType, url: str, valkey: Redis, folder: Path, core: int, messages: Sequence[Mapping[bytes, bytes]]
) -> float:
    """Return the messages per second of another consumer; Valkey fsyncs once a second for it, not at each ack."""
    valkey.config_set("appendfsync", "everysec")
    consumption.fill(valkey, rival.STREAM, messages)
    valkey.xgroup_create(rival.STREAM, rival.GROUP, id="0")
    name, *arguments = rival.COMMAND
    settings = environment() | {"REDIS_URL": url}
    with run_process(program(name), *arguments, core=core, folder=folder, environment=settings) as child:
        return consumption.rate(valkey, rival.STREAM, rival.GROUP, child)


def compare(folder: Path, cores: Cores, rounds: int, number: int) -> tuple[list[Ratio], list[str]]:
    """Return the ratios, and notes on the rig."""
    with ExitStack() as stack:
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey"))
        worker = Worker(url, valkey, folder, cores.measured, number)
        kinds: tuple[Databases, ...] = (Sqlite(folder), stack.enter_context(postgresql(folder)))
        measures: dict[str, Measure] = {}
        for kind in kinds:
            bare = stack.enter_context(run_bare(kind, number, cores.measured, folder))
            measures[f"worker on {kind.kind}"] = partial(worker.rate, kind)
            measures[f"bare SQL on {kind.kind}"] = partial(worker.bare_rate, kind, bare)
        messages = faststream_subscriber.encode_messages(payloads(number // RIVALS_SHARE))
        measures["FastStream"] = partial(
            rival_rate, faststream_subscriber, url, valkey, folder, cores.measured, messages
        )
        rates = measure_in_turn(rounds, measures)
    return [
        *(
            Ratio(
                f"worker on {kind.kind}",
                "its SQL alone",
                "events",
                SQL_SHARES[kind.kind],
                rates[f"worker on {kind.kind}"],
                rates[f"bare SQL on {kind.kind}"],
            )
            for kind in kinds
        ),
        Ratio(
            "worker on SQLite",
            "idle FastStream subscriber",
            "events",
            4,
            rates["worker on SQLite"],
            rates["FastStream"],
        ),
    ], [f"worker: {number:,} entries a round, the SQL alone in batches of {BARE_BATCH:,}; the first tenth not counted"]


@contextmanager
def run_bare(kind: Databases, number: int, core: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the process of bench.baselines.sql_store for the block. It has recorded all statements."""
    command = sys.executable, "-m", sql_store.__name__, kind.fresh(), str(number), str(BARE_BATCH)
    with run_process(*command, core=core, folder=folder, environment=environment(), talks=True) as child:
        sql_store.await_ready(child)
        yield child
