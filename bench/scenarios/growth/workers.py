"""Measure the CPU time of workers for an entry with more groups, shards or worker processes.

The handlers are functions of a list that do nothing, so the figures are the costs of the worker itself.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.capacity.cpu_costs import measure_backlog
from bench.handlers import noop
from bench.rig import servers
from bench.rig.consumption import empty
from bench.rig.figures import Curve
from bench.rig.processes import Cores, environment, program, run_process
from bench.rig.results import Result
from stream.keys import Shard

GROUPS, SHARDS, PROCESSES = (1, 2, 4, 8), (1, 2, 4), (1, 2)
SIZE = 560
UNIT = "CPU us/event"


class BacklogRig:
    """A Valkey, and workers that consume what is appended while they are stopped. Valkey fsyncs once a second."""

    def __init__(self, stack: ExitStack, folder: Path, cores: Cores, number: int) -> None:
        self._url, self._valkey = stack.enter_context(servers.valkey(folder / "valkey", "everysec"))
        self._folder = folder
        self._core = cores.measured
        self._number = number

    def measure(self, groups: int = 1, shards: int = 1, processes: int = 1) -> float:
        """Return the CPU microseconds of all processes for an event of one group."""
        empty(self._valkey)
        names = [f"group{number}" for number in range(groups)]
        handlers = [argument for name in names for argument in ("--handler", f"{name}={noop.__name__}:many")]
        settings = environment(redis_url=self._url, data=str(self._folder / "data"), shards=str(shards))
        command = program("ackstream"), "worker", *handlers
        with ExitStack() as stack:
            children = [
                stack.enter_context(run_process(*command, core=self._core, folder=self._folder, environment=settings))
                for _ in range(processes)
            ]
            places = [Shard(number=number) for number in range(shards)]
            return measure_backlog(self._valkey, children, names, self._number, SIZE, places) / groups


def compare(folder: Path, cores: Cores, rounds: int, number: int) -> Result:
    """Return a curve for groups, shards and processes."""
    with ExitStack() as stack:
        rig = BacklogRig(stack, folder, cores, number)
        curves = [
            _measure(rounds, axis, places, measure)
            for axis, places, measure in (
                ("groups of one worker", GROUPS, lambda groups: rig.measure(groups=groups)),
                ("shards", SHARDS, lambda shards: rig.measure(shards=shards)),
                ("worker processes", PROCESSES, lambda processes: rig.measure(processes=processes)),
            )
        ]
    notes = [f"a function of a list that does nothing, {number:,} statuses of {SIZE} bytes, appendfsync everysec"]
    return Result(notes=notes, curves=curves)


def _measure(rounds: int, axis: str, places: Sequence[int], measure: Callable[[int], float]) -> Curve:
    points: dict[float, list[float]] = defaultdict(list)
    for number in range(rounds):
        for place in places[:: 1 if number % 2 == 0 else -1]:
            points[place].append(measure(place))
        print(f"{axis}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return Curve(axis, UNIT, {"worker": dict(sorted(points.items()))})
