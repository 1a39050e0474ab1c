"""The command line of a run."""

import argparse
import secrets
from collections.abc import Callable, Collection

from tests.chaos import controls
from tests.chaos.nemesis.kinds import KINDS


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description="Break things at random under load, and count what is lost."
    )
    parser.add_argument("--rounds", type=_whole(0, 10_000), default=60, help="default 60; 0 plays the controls only")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="repeats the choice of faults")
    parser.add_argument("--first", type=_whole(0, 10**6), default=1, help="number of the first round (default 1)")
    parser.add_argument(
        "--faults", type=_names(KINDS), default=[], help=f"comma separated, of: {', '.join(KINDS)} (default all)"
    )
    parser.add_argument("--most", type=_whole(1, 5), default=3, help="faults in a round, at most (default 3)")
    parser.add_argument("--ack", choices=("stream", "fsync"), default="stream")
    parser.add_argument("--appendfsync", choices=("always", "everysec"), default="always", help="of Redis")
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--workers", type=_whole(1, 8), default=2)
    parser.add_argument("--shards", type=_whole(1, 64), default=1, help="of the stream (default 1)")
    parser.add_argument("--processes", type=_whole(1, 8), default=1, help="of each ingest and worker (default 1)")
    parser.add_argument("--order", action="store_true", help="use order mode, and check every call of a handler")
    parser.add_argument(
        "--control",
        type=_names(("none", *controls.CONTROLS)),
        default=controls.possible(),
        help=f"control runs at the end, of: {', '.join(controls.CONTROLS)} or none (default all)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    arguments.control = [name for name in arguments.control if name != "none"]
    return arguments


def _names(allowed: Collection[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(allowed):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))} is not a valid name")
        return names

    return names


def _whole(least: int, greatest: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= greatest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {greatest}")
        return int(text)

    return whole
