"""``python -m tests.chaos``: plays rounds and controls, prints what they showed; exit code 1 if anything is wrong."""

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

from tests.chaos import kinds, mounts, options, report
from tests.chaos.building import built
from tests.chaos.controls import Seen, watch
from tests.chaos.court import sitting
from tests.chaos.faults import Kind
from tests.chaos.judge import WHOLE, Ending
from tests.chaos.rounds import Plan, Round, play
from tests.chaos.site import Cluster, Setup


def main() -> None:
    """Play what is asked for."""
    given = options.given()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is ended
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    may_mount = mounts.unshare()
    folder = Path(tempfile.mkdtemp(prefix="ackstream-chaos-"))
    _say(f"seed {given.seed}, logs in {folder}")
    rounds, whole = asyncio.run(_rounds(given, folder, may_mount=may_mount))
    seen = [asyncio.run(_watched(name, folder)) for name in given.control]
    if given.json:
        shown = {"seed": given.seed, **report.as_json(rounds), "controls": [str(one) for one in seen]}
        print(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    elif rounds:
        print(f"\n{report.table(rounds)}")
    wrong = [*(one.troubles for one in rounds if one.troubles), *(one for one in seen if not one.sees)]
    if wrong or (whole is not None and (whole.verdict.lost or whole.verdict.duplicates or whole.verdict.wrong)):
        _say(f"FAILED; everything is kept in {folder}")
        sys.exit(1)
    shutil.rmtree(folder, ignore_errors=True)


async def _rounds(given: argparse.Namespace, folder: Path, *, may_mount: bool) -> tuple[list[Round], Ending | None]:
    """Play the rounds on one site; at their end all loads are judged once more together."""
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
    async with built(setup) as site, sitting(site, folder) as court:
        chosen = _chosen(site, given.faults)
        for number in range(given.first, given.first + given.rounds):
            plan = Plan.drawn(given.seed, number, chosen, given.most)
            _say(str(plan))
            played = await play(site, court, plan)
            rounds.append(played)
            for words in report.told(played):
                _say(words)
        whole = await court.end(WHOLE)
        _say(f"all rounds together: {whole.verdict.acked} acked, lost {whole.verdict.lost}, drained {not whole.left}")
    return rounds, whole


def _chosen(site: Cluster, names: Sequence[str]) -> Mapping[str, Kind]:
    possible = kinds.possible(site)
    for name in sorted((set(names) or set(kinds.KINDS)) - set(possible)):
        _say(f"{name} is left out: it needs {kinds.KINDS[name].needs}, which is not here")
    chosen = {name: kind for name, kind in possible.items() if not names or name in names}
    if not chosen:
        sys.exit("none of these faults can be had here")
    return chosen


async def _watched(name: str, folder: Path) -> Seen:
    seen = await watch(name, folder / f"control-{name}")
    _say(f"control {seen}")
    return seen


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
