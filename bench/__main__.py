"""``python -m bench``: measures what is asked for, prints the ratios. The exit code tells of the rig, not of them."""

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
from bench.scenarios import failing, handlers, ingest, replay, slow_clients, trim, worker

PARTS = ("ingest", "worker", "handlers", "failing", "slow", "trim", "replay")
ON_STREAM = {"worker": worker, "handlers": handlers, "failing": failing}


def main() -> None:
    """Measure, print."""
    given = _arguments()
    if not hasattr(os, "sched_setaffinity"):
        sys.exit("bench: this system does not let a program choose its cores, so there is nothing to compare by")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is ended
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    ratios: list[Ratio] = []
    differences: list[trim.Difference] = []
    notes = [_machine(cores)]
    for part in given.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as name:
            folder = Path(name)
            if part == "trim":
                differences += trim.compare(folder, cores, given.rounds, given.seconds, given.trimmed)
                continue
            if part == "ingest":
                found, noted = ingest.compare(folder, cores, given.rounds, given.seconds)
            elif part == "slow":
                found, noted = [], slow_clients.compare(folder, cores, given.rounds)
            elif part == "replay":
                found, noted = [], replay.compare(folder, cores, given.rounds, given.replayed)
            else:
                found, noted = ON_STREAM[part].compare(folder, cores, given.rounds, given.entries)
        ratios += found
        notes += noted
    if given.json:
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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Compare Ackstream with what one would use instead.")
    parser.add_argument("parts", nargs="*", metavar="|".join(PARTS), help="what to measure (default all)")
    parser.add_argument("--rounds", type=_whole(1, 100), default=5, help="how often each is measured (default 5)")
    parser.add_argument("--seconds", type=_whole(1, 60), default=3, help="of each load on an HTTP server (default 3)")
    parser.add_argument(
        "--entries", type=_whole(5000, 200_000), default=40_000, help="on the stream for a worker (default 40000)"
    )
    parser.add_argument(
        "--trimmed", type=_whole(10_000, 1_000_000), default=300_000, help="entries to trim (default 300000)"
    )
    parser.add_argument(
        "--replayed", type=_whole(10_000, 1_000_000), default=100_000, help="entries to replay (default 100000)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"{unknown.pop()} is none of {', '.join(PARTS)}")
    return given


def _whole(least: int, most: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return whole


def _machine(cores: Cores) -> str:
    if cores.count == 1:
        return "1 core, shared by what is measured and what measures it: the ratios mean little, the rates nothing"
    return (
        f"{cores.count} cores; what is measured runs on core {cores.measured}, the load, Valkey and PostgreSQL on core "
        f"{cores.rest}; only the ratios mean anything"
    )


if __name__ == "__main__":
    main()
