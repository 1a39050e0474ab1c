import os
import random
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from tests.chaos.checker import payloads
from tests.chaos.checker.analysis import GROUPS, LOG, STORE, Observations, analyze
from tests.chaos.nemesis.kinds import AWAY, KINDS
from tests.chaos.nemesis.schedule import draw
from tests.support.fork_server import PYTHON
from tests.support.processes import run_forked

ROOT = Path(__file__).parents[2]
GOOD, BAD = "chaos-1-1-g", "chaos-1-2-x"

# Faults that need no takeover and that every machine can have.
QUICK = ("kill-ingest", "restart-ingest", "kill-redis", "redis-full", "destroy-group")
SEED = "2661"
"""Its first round has all of them, one ingest always runs, and the load is small."""
RUN_SECONDS = 180.0

RIGHT = Observations(
    bodies={GOOD: [payloads.body(GOOD)]},
    statuses={GOOD: [payloads.status(GOOD)]},
    logged={GOOD},
    dead={group: {BAD: [payloads.UNPARSABLE_REASON]} for group in GROUPS},
)
NO_DEAD = {group: dict[str, list[str]]() for group in GROUPS}


def test_an_analysis_without_faults_has_no_names() -> None:
    """A valid message with rows and log line, and an invalid one dead-lettered in each group, are not lost."""
    analysis = analyze({GOOD, BAD}, [GOOD, BAD], RIGHT)
    assert (analysis.acked, analysis.stored, analysis.dead) == (2, 1, {payloads.UNPARSABLE_REASON: 1})
    assert (analysis.lost, analysis.duplicates, analysis.wrong, analysis.names) == (0, 0, 0, {})


@pytest.mark.parametrize(
    ("observations", "lost"),
    [
        (replace(RIGHT, bodies={}, statuses={}), GOOD),
        (replace(RIGHT, logged=set()), GOOD),
        (replace(RIGHT, bodies={}, statuses={}, dead={**RIGHT.dead, STORE: {GOOD: ["invalid-status"]}}), GOOD),
        (replace(RIGHT, dead={**RIGHT.dead, LOG: {}}), BAD),
        (replace(RIGHT, dead={group: {BAD: ["attempts"]} for group in GROUPS}), BAD),
    ],
    ids=["not stored", "not logged", "dead-lettered", "in one group only", "dead-lettered for another reason"],
)
def test_a_message_answered_200_must_be_settled_rightly_in_each_group(observations: Observations, lost: str) -> None:
    """A message is lost if a group has neither handled it nor, if it is invalid, dead-lettered it for that reason."""
    analysis = analyze({GOOD, BAD}, [GOOD, BAD], observations)
    assert lost in " ".join(analysis.names["lost"])
    assert analysis.lost >= 1


def test_a_message_never_answered_200_may_be_stored_or_not() -> None:
    """Only a 200 is a promise; a message stored without one must be stored once, with the payload that was sent."""
    assert analyze(set(), [GOOD], replace(RIGHT, bodies={}, statuses={}, dead=NO_DEAD)).lost == 0
    twice = replace(RIGHT, bodies={GOOD: [payloads.body(GOOD)] * 2})
    assert analyze(set(), [GOOD], twice).duplicates == 1
    outcome = replace(RIGHT, statuses={GOOD: ["seen"]})
    assert analyze(set(), [GOOD], outcome).wrong == 1


def test_a_seed_draws_the_same_faults_again() -> None:
    """Kinds, times and details follow from the seed, and a fault with effect only without Redis gets company."""
    seeds = [*range(200), *range(200)]
    drawn = [[str(fault) for fault in draw(random.Random(seed), KINDS, AWAY, 3)] for seed in seeds]
    assert drawn[:200] == drawn[200:]
    assert {fault.partition(" ")[0] for faults in drawn for fault in faults} == set(KINDS)
    for faults in drawn:
        names = {fault.partition(" ")[0] for fault in faults}
        assert names & AWAY.keys() or not any(KINDS[name].with_redis_away for name in names)


@pytest.mark.crash
def test_random_faults_lose_nothing_and_the_checker_is_not_blind(tmp_path: Path) -> None:
    """A round of five faults: nothing lost, nothing twice, all drained; without the append-only file, a loss."""
    faults = ("--faults", ",".join(QUICK), "--most", str(len(QUICK)))
    command = (*PYTHON, "-m", "tests.chaos", "--rounds", "1", "--seed", SEED, *faults, "--control", "no-aof", "--json")
    run = run_forked(command, tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)}, RUN_SECONDS)
    assert run.returncode == 0, run.stderr
    shown = orjson.loads(run.stdout)
    assert shown["failed"] == []
    assert {name: figures["rounds"] for name, figures in shown["kinds"].items()} == dict.fromkeys(("all", *QUICK), 1)
