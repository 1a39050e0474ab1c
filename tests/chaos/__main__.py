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

from tests.chaos import options, report
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
    given = options.parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all processes end
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    may_mount = mounts.unshare()
    folder = Path(tempfile.mkdtemp(prefix="ackstream-chaos-"))
    _say(f"seed {given.seed}, logs in {folder}")
    rounds, whole = asyncio.run(_rounds(given, folder, may_mount=may_mount))
    seen = [asyncio.run(_watch_control(name, folder)) for name in given.control]
    if given.json:
        shown = {"seed": given.seed, **report.as_json(rounds), "controls": [str(one) for one in seen]}
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    elif rounds:
        print(f"\n{report.table(rounds)}")
    wrong = [*(one.failures for one in rounds if one.failures), *(one for one in seen if not one.has_seen_loss)]
    if wrong or (whole is not None and (whole.analysis.lost or whole.analysis.duplicates or whole.analysis.wrong)):
        _say(f"FAILED; everything is kept in {folder}")
        sys.exit(1)
    shutil.rmtree(folder, ignore_errors=True)


async def _rounds(given: argparse.Namespace, folder: Path, *, may_mount: bool) -> tuple[list[Round], LoadResult | None]:
    """Run the rounds on one cluster; at the end, analyse all loads together."""
    if not given.rounds:
        return [], None
    setup = Setup(
        folder,
        database=given.database,
        ack=given.ack,
        appendfsync=given.appendfsync,
        workers=given.workers,
        may_mount=may_mount,
    )
    rounds: list[Round] = []
    async with run_cluster(setup) as cluster, run_checker(cluster, folder) as checker:
        chosen = _select_kinds(cluster, given.faults)
        for number in range(given.first, given.first + given.rounds):
            plan = Plan.draw(given.seed, number, chosen, given.most)
            _say(str(plan))
            played = await play(cluster, checker, plan)
            rounds.append(played)
            for words in report.describe(played):
                _say(words)
        whole = await checker.end(WHOLE)
        _say(f"all rounds together: {whole.analysis.acked} acked, lost {whole.analysis.lost}, drained {not whole.left}")
    return rounds, whole


def _select_kinds(cluster: Cluster, names: Sequence[str]) -> Mapping[str, Kind]:
    possible = kinds.possible(cluster)
    for name in sorted((set(names) or set(kinds.KINDS)) - set(possible)):
        _say(f"{name} is left out: it needs {kinds.KINDS[name].needs}, which is not here")
    chosen = {name: kind for name, kind in possible.items() if not names or name in names}
    if not chosen:
        sys.exit("none of these faults can be had here")
    return chosen


async def _watch_control(name: str, folder: Path) -> ControlResult:
    seen = await watch(name, folder / f"control-{name}")
    _say(f"control {seen}")
    return seen


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
