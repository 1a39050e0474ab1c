"""``python -m tests.chaos``: runs rounds and controls and prints the report; exit code 1 on any failure."""

import argparse
import asyncio
import logging
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
import structlog

from tests.chaos import options, ordered, report
from tests.chaos.checker.checker import WHOLE, LoadResult
from tests.chaos.checker_client import run_checker
from tests.chaos.cluster import mounts
from tests.chaos.cluster.builder import run_cluster
from tests.chaos.cluster.cluster import Cluster, Setup
from tests.chaos.controls import ControlResult, watch
from tests.chaos.nemesis import kinds
from tests.chaos.nemesis.schedule import Kind
from tests.chaos.rounds import Plan, Round, play


def main() -> None:
    """Run the rounds and the controls."""
    arguments = options.parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all processes end
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    may_mount = kinds.need(kinds.DISK, arguments.faults) and mounts.unshare()
    folder = Path(tempfile.mkdtemp(prefix="ackstream-chaos-"))
    _say(f"seed {arguments.seed}, logs in {folder}")
    rounds, total = asyncio.run(_rounds(arguments, folder, may_mount=may_mount))
    controls = [asyncio.run(_watch_control(name, folder)) for name in arguments.control]
    if arguments.json:
        shown = {"seed": arguments.seed, **report.as_json(rounds), "controls": [str(control) for control in controls]}
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    elif rounds:
        print(f"\n{report.table(rounds)}")
    wrong = [
        *(played.failures for played in rounds if played.failures),
        *(control for control in controls if not control.has_seen_loss),
    ]
    if wrong or (total is not None and (total.analysis.lost or total.analysis.duplicates or total.analysis.wrong)):
        _say(f"FAILED; everything is kept in {folder}")
        sys.exit(1)
    shutil.rmtree(folder, ignore_errors=True)


async def _rounds(
    arguments: argparse.Namespace, folder: Path, *, may_mount: bool
) -> tuple[list[Round], LoadResult | None]:
    """Run the rounds on one cluster; at the end, analyse all loads together."""
    if not arguments.rounds:
        return [], None
    setup = Setup(
        folder,
        database=arguments.database,
        ack=arguments.ack,
        appendfsync=arguments.appendfsync,
        workers=arguments.workers,
        shards=arguments.shards,
        processes=arguments.processes,
        has_shim=kinds.need(kinds.SHIM, arguments.faults),
        handler=ordered.HANDLER if arguments.order else "",
        may_mount=may_mount,
    )
    if arguments.order:
        ordered.prepare(folder)
    rounds: list[Round] = []
    async with run_cluster(setup) as cluster, run_checker(cluster, folder) as checker:
        chosen = _select_kinds(cluster, arguments.faults)
        if arguments.order:
            chosen = ordered.select_kinds(chosen)
        for number in range(arguments.first, arguments.first + arguments.rounds):
            plan = Plan.draw(arguments.seed, number, chosen, arguments.most)
            _say(str(plan))
            played = await play(cluster, checker, plan, folder if arguments.order else None)
            rounds.append(played)
            for words in report.describe(played):
                _say(words)
        total = await checker.end(WHOLE)
        _say(f"all rounds together: {total.analysis.acked} acked, lost {total.analysis.lost}, drained {not total.left}")
    return rounds, total


def _select_kinds(cluster: Cluster, names: Sequence[str]) -> Mapping[str, Kind]:
    possible = kinds.possible(cluster)
    for name in sorted((set(names) or set(kinds.KINDS)) - set(possible)):
        _say(f"{name} is left out: it needs {kinds.KINDS[name].needs}, which is not here")
    chosen = {name: kind for name, kind in possible.items() if not names or name in names}
    if not chosen:
        sys.exit("none of these faults can be had here")
    return chosen


async def _watch_control(name: str, folder: Path) -> ControlResult:
    result = await watch(name, folder / f"control-{name}")
    _say(f"control {result}")
    return result


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
