"""Compare the worker and no-op functions with redis-py alone, with FastStream and with taskiq."""

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from redis import Redis

from bench.baselines import faststream_subscriber, redis_consumer, taskiq_worker
from bench.handlers import noop
from bench.rig import consumption, servers
from bench.rig.payloads import payloads
from bench.rig.processes import Cores, environment, program, run_process
from bench.rig.ratio import Measure, Ratio, measure_in_turn
from bench.rig.statuses import entries
from bench.scenarios.worker import RIVALS_SHARE, rival_rate
from stream.keys import Shard

BATCH = 1000
GROUP = "idle"
RIVALS = {"idle FastStream subscriber": faststream_subscriber, "idle taskiq task": taskiq_worker}


class Handlers:
    """A stream that is consumed by one process after the other, each on one core; Valkey fsyncs once a second."""

    def __init__(self, url: str, valkey: Redis, folder: Path, core: int, number: int) -> None:
        self._url = url
        self._valkey = valkey
        self._folder = folder
        self._core = core
        self._entries = [entry.to_fields() for entry in entries(payloads(number))]

    def rate(self, function: str, *, never: int = 0) -> float:
        """Return the events per second of `ackstream worker` with this function of bench.handlers.noop.

        ``never`` entries are never settled.
        """
        handler = f"{GROUP}={noop.__name__}:{function}#batch={BATCH}"
        return self._rate(program("ackstream"), "worker", "--handler", handler, never=never)

    def bare_rate(self) -> float:
        """Return the entries per second that a bare consumer reads and acks."""
        stream = Shard().stream
        return self._rate(sys.executable, "-m", redis_consumer.__name__, self._url, stream, GROUP, str(BATCH))

    def _rate(self, *command: str, never: int = 0) -> float:
        stream = Shard().stream
        self._valkey.config_set("appendfsync", "everysec")
        consumption.fill(self._valkey, stream, self._entries)
        self._valkey.xgroup_create(stream, GROUP, id="0")
        settings = environment(redis_url=self._url, data=str(self._folder / "data"))
        with run_process(*command, core=self._core, folder=self._folder, environment=settings) as child:
            return consumption.rate(self._valkey, stream, GROUP, child, never=never)


def compare(folder: Path, cores: Cores, rounds: int, number: int) -> tuple[list[Ratio], list[str]]:
    """Return the ratios, and notes on the rig."""
    with ExitStack() as stack:
        url, valkey = stack.enter_context(servers.valkey(folder / "valkey"))
        handlers = Handlers(url, valkey, folder, cores.measured, number)
        lists, single, bare = "a list", "one event", "bare XREADGROUP and XACK"
        measures: dict[str, Measure] = {
            lists: partial(handlers.rate, "many"),
            bare: handlers.bare_rate,
            single: partial(handlers.rate, "one"),
        }
        for name, rival in RIVALS.items():
            messages = rival.encode_messages(payloads(number // RIVALS_SHARE))
            measures[name] = partial(rival_rate, rival, url, valkey, folder, cores.measured, messages)
        rates = measure_in_turn(rounds, measures)
    pairs = [(lists, bare, 0.4), *((lists, name, 20) for name in RIVALS), *((single, name, 8) for name in RIVALS)]
    return [
        Ratio(f"a function of {ours}", theirs, "events", target, rates[ours], rates[theirs])
        for ours, theirs, target in pairs
    ], [f"handlers: {number:,} entries a round, in batches of {BATCH:,}; the first tenth not counted"]
