"""Run the named comparisons and print their ratios: ``python -m bench``.

The exit code is 0 when all measurements ran, whether or not a ratio meets its limit.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson
import structlog

from bench.rig.processes import Cores
from bench.rig.results import Result, write_result
from bench.scenarios import failing, handlers, ingest, replay, slow_clients, trim, worker
from bench.scenarios.growth import backlog, requests, workers
from bench.scenarios.latency import answers, rows

Comparison = Callable[[Path, Cores, argparse.Namespace], Result]

PARTS: Mapping[str, Comparison] = {
    "ingest": lambda folder, cores, given: Result(
        *ingest.compare(folder, cores, given.rounds, given.seconds, given.fsync)
    ),
    "worker": lambda folder, cores, given: Result(*worker.compare(folder, cores, given.rounds, given.entries)),
    "handlers": lambda folder, cores, given: Result(*handlers.compare(folder, cores, given.rounds, given.entries)),
    "failing": lambda folder, cores, given: Result(*failing.compare(folder, cores, given.rounds, given.entries)),
    "slow": lambda folder, cores, given: Result(notes=slow_clients.compare(folder, cores, given.rounds)),
    "trim": lambda folder, cores, given: trim.compare(folder, cores, given.rounds, given.seconds, given.trimmed),
    "replay": lambda folder, cores, given: Result(notes=replay.compare(folder, cores, given.rounds, given.replayed)),
    "answers": lambda folder, cores, given: answers.compare(folder, cores, given.rounds, given.seconds, given.fsync),
    "rows": lambda folder, cores, given: rows.compare(folder, cores, given.rounds, given.seconds, given.fsync),
    "connections": lambda folder, cores, given: requests.compare_connections(
        folder, cores, given.rounds, given.seconds, given.fsync
    ),
    "sizes": lambda folder, cores, given: requests.compare_sizes(
        folder, cores, given.rounds, given.seconds, given.fsync
    ),
    "backlog": lambda folder, cores, given: backlog.compare(folder, cores, given.rounds, given.seconds, given.backlog),
    "workers": lambda folder, cores, given: workers.compare(folder, cores, given.rounds, given.entries),
}
BY_FSYNC = ("ingest",)
"""The results of these comparisons have a file for each ``appendfsync``."""


def main() -> None:
    """Run the comparisons and print the result."""
    arguments = _arguments()
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("bench: this system cannot pin a process to a core, so results would not be comparable")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # end the started processes
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    results: dict[str, Result] = {}
    for part in arguments.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as name:
            result = results[part] = PARTS[part](Path(name), cores, arguments)
        if arguments.write and result.rounds:
            write_result(f"{part}-{arguments.fsync}" if part in BY_FSYNC else part, result, cores)
    if arguments.json:
        shown = {
            "cores": cores.count,
            "machine": _machine(cores),
            "results": {part: result.as_json() for part, result in results.items()},
        }
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n\n".join([_machine(cores), *map(str, results.values())]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Compare Ackstream with the alternatives.")
    parser.add_argument("parts", nargs="*", metavar="|".join(PARTS), help="comparisons to run (default: all)")
    parser.add_argument("--rounds", type=_whole(1, 100), default=5, help="rounds of each comparison (default 5)")
    parser.add_argument(
        "--seconds", type=_whole(1, 60), default=3, help="seconds of each load on an HTTP server (default 3)"
    )
    parser.add_argument(
        "--entries",
        type=_whole(5000, 200_000),
        default=40_000,
        help="entries on the stream for a worker (default 40000)",
    )
    parser.add_argument(
        "--trimmed", type=_whole(10_000, 1_000_000), default=300_000, help="entries to trim (default 300000)"
    )
    parser.add_argument(
        "--replayed", type=_whole(10_000, 1_000_000), default=100_000, help="entries to replay (default 100000)"
    )
    parser.add_argument(
        "--backlog",
        type=_whole(100_000, 10_000_000),
        default=10_000_000,
        help="entries of the greatest backlog (default 10000000)",
    )
    parser.add_argument(
        "--fsync",
        choices=("always", "everysec"),
        default="always",
        help="appendfsync where HTTP is measured (default always)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", action="store_true", help="also write the ratios for docs/benchmarks.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"{unknown.pop()} is not one of {', '.join(PARTS)}")
    return arguments


def _whole(minimum: int, maximum: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not text.isdecimal() or not minimum <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {minimum} to {maximum}")
        return int(text)

    return whole


def _machine(cores: Cores) -> str:
    if cores.count == 1:
        return "1 core, shared by the measured process and the load: ratios mean little, rates nothing"
    return (
        f"{cores.count} cores; the measured process has core {cores.measured}, the load, Valkey and PostgreSQL on core "
        f"{cores.rest}; only the ratios are comparable"
    )


if __name__ == "__main__":
    main()
