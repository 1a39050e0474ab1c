"""Rolling restart under load: workers get SIGTERM one after the other and are replaced, as in a deployment.

``python -m bench.scenarios.rolling_restart`` appends events at a steady rate and reports the number handled, the number
handled twice, and the longest time without a handled event.
"""

import argparse
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from redis import Redis

from bench.handlers import recording
from bench.rig import consumption, servers
from bench.rig.payloads import payloads
from bench.rig.processes import Cores, environment, program, run_process
from bench.rig.statuses import entries
from stream.keys import Shard

GROUP = "noting"
TICK_SECONDS = 0.01
SETTLE_SECONDS = 60.0
WARM_SECONDS = 3.0
LONGEST_GAP_SECONDS = 2.0


class Load:
    """Appends entries at a steady rate until it is stopped."""

    def __init__(self, server: Redis, rate: float, maximum: int) -> None:
        self._server = server
        self._rate = rate
        self._entries = [entry.to_fields() for entry in entries(payloads(maximum))]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.appended = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and return when the last entry is appended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(TICK_SECONDS) and self.appended < len(self._entries):
            due = min(int((time.monotonic() - began) * self._rate), len(self._entries))
            with self._server.pipeline(transaction=False) as pipe:
                for fields in self._entries[self.appended : due]:
                    pipe.xadd(Shard().stream, dict(fields))  # type: ignore[arg-type]
                pipe.execute()
            self.appended = due


def read_events(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield the events that the handlers recorded."""
    for file in folder.glob("notes-*.txt"):
        for line in file.read_text().splitlines():
            event_id, moment = line.split()
            yield event_id, float(moment)


def main() -> None:
    """Run the restart, print the result, and fail if an event was handled twice or not at all."""
    arguments = _arguments()
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    with tempfile.TemporaryDirectory(prefix="ackstream-rolling-") as name, ExitStack() as stack:
        folder = Path(name)
        url, server = stack.enter_context(servers.valkey(folder / "valkey"))
        settings = environment(redis_url=url, data=str(folder / "data"))
        command = program("ackstream"), "worker", "--handler", f"{GROUP}={recording.__name__}:note"

        def start() -> int:
            worker = run_process(*command, core=cores.measured, folder=folder, environment=settings)
            return stack.enter_context(worker).pid

        load = Load(
            server, arguments.rate, int(arguments.rate * (arguments.workers * arguments.pause + 4 * WARM_SECONDS + 30))
        )
        workers = [start() for _ in range(arguments.workers)]
        time.sleep(WARM_SECONDS)
        load.start()
        time.sleep(WARM_SECONDS)
        for worker in workers:
            os.kill(worker, signal.SIGTERM)
            start()
            time.sleep(arguments.pause)
        load.stop()
        _await_all(server, load.appended)
        _judge(folder, load.appended, arguments.rate)


def _await_all(server: Redis, appended: int) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while consumption.count_settled(server, Shard().stream, GROUP) < appended:
        assert time.monotonic() < deadline, "not everything was handled"
        time.sleep(0.05)


def _judge(folder: Path, appended: int, rate: float) -> None:
    lines = list(read_events(folder))
    times = Counter(event_id for event_id, _ in lines)
    moments = sorted(moment for _, moment in lines)
    gap = max(later - earlier for earlier, later in pairwise(moments))
    twice = sum(count > 1 for count in times.values())
    seconds = moments[-1] - moments[0]
    print(f"{appended:,} events at {rate:,.0f}/s over {seconds:.0f} s: {len(times):,} handled, {twice} of them twice")
    result = "met" if gap <= LONGEST_GAP_SECONDS else "missed"
    print(f"longest time without an event handled: {gap:.2f} s  (at most {LONGEST_GAP_SECONDS:g}: {result})")
    assert (len(times), twice) == (appended, 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.scenarios.rolling_restart", description="Restart workers under load, one by one."
    )
    parser.add_argument("--workers", type=int, default=4, help="number of workers (default 4)")
    parser.add_argument("--rate", type=float, default=2000.0, help="events a second (default 2000)")
    parser.add_argument("--pause", type=float, default=4.0, help="seconds between two restarts (default 4)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
