"""Run the named comparisons and print their ratios: ``python -m bench``.

The exit code is 0 when all measurements ran, whether or not a ratio meets its limit.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import orjson
import structlog

from bench.rig.processes import Cores
from bench.rig.ratio import Ratio, table
from bench.rig.results import write_result
from bench.scenarios import failing, handlers, ingest, replay, slow_clients, trim, worker

PARTS = ("ingest", "worker", "handlers", "failing", "slow", "trim", "replay")
ON_STREAM = {"worker": worker, "handlers": handlers, "failing": failing}


def main() -> None:
    """Run the comparisons and print the result."""
    arguments = _arguments()
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("bench: this system cannot pin a process to a core, so results would not be comparable")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # end the started processes
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    ratios: list[Ratio] = []
    differences: list[trim.Difference] = []
    notes = [_machine(cores)]
    for part in arguments.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as name:
            if part == "trim":
                differences += trim.compare(Path(name), cores, arguments.rounds, arguments.seconds, arguments.trimmed)
                continue
            measured, noted = _compare(part, Path(name), cores, arguments)
        if arguments.write and measured:
            write_result(f"{part}-{arguments.fsync}" if part == "ingest" else part, measured, noted, cores)
        ratios += measured
        notes += noted
    if arguments.json:
        shown = {
            "cores": cores.count,
            "notes": notes,
            "ratios": [ratio.as_json() for ratio in ratios],
            "differences": [difference.as_json() for difference in differences],
        }
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    else:
        parts = ["\n".join(notes), table(ratios) if ratios else "", "\n".join(map(str, differences))]
        print("\n\n".join(filter(None, parts)))


def _compare(part: str, folder: Path, cores: Cores, arguments: argparse.Namespace) -> tuple[list[Ratio], list[str]]:
    """Run one comparison; return its ratios and its notes."""
    if part == "ingest":
        return ingest.compare(folder, cores, arguments.rounds, arguments.seconds, arguments.fsync)
    if part == "slow":
        return [], slow_clients.compare(folder, cores, arguments.rounds)
    if part == "replay":
        return [], replay.compare(folder, cores, arguments.rounds, arguments.replayed)
    result: tuple[list[Ratio], list[str]] = ON_STREAM[part].compare(folder, cores, arguments.rounds, arguments.entries)
    return result


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
        "--fsync", choices=("always", "everysec"), default="always", help="appendfsync for ingest (default always)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", action="store_true", help="also write the ratios for docs/benchmarks.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
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
