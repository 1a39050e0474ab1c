import random
import subprocess
import sys
from dataclasses import replace

import orjson
import pytest

from tests.chaos import payloads
from tests.chaos.faults import draw
from tests.chaos.kinds import AWAY, KINDS
from tests.chaos.verdict import GROUPS, LOG, STORE, Found, judge

GOOD, BAD = "chaos-1-1-g", "chaos-1-2-x"

# Those that need no time for taking over, and no more than what every machine has.
QUICK = "kill-ingest,restart-ingest,kill-redis,cut,tear,redis-full,destroy-group,kill-postgresql"
SEED = "2517"
"""Its two rounds kill ingest and Redis, fill Redis, restart ingest and destroy groups, with little load."""
RUN_SECONDS = 180.0

RIGHT = Found(
    bodies={GOOD: [payloads.body(GOOD)]},
    statuses={GOOD: [payloads.status(GOOD)]},
    logged={GOOD},
    dead={group: {BAD: [payloads.UNPARSABLE_REASON]} for group in GROUPS},
)
NO_DEAD = {group: dict[str, list[str]]() for group in GROUPS}


def test_a_judge_finds_nothing_wrong_where_nothing_is() -> None:
    """A good message with its rows and its line, and a bad one among the dead letters of each group, are not lost."""
    verdict = judge({GOOD, BAD}, [GOOD, BAD], RIGHT)
    assert (verdict.acked, verdict.stored, verdict.dead) == (2, 1, {payloads.UNPARSABLE_REASON: 1})
    assert (verdict.lost, verdict.duplicates, verdict.wrong, verdict.names) == (0, 0, 0, {})


@pytest.mark.parametrize(
    ("found", "lost"),
    [
        (replace(RIGHT, bodies={}, statuses={}), GOOD),
        (replace(RIGHT, logged=set()), GOOD),
        (replace(RIGHT, bodies={}, statuses={}, dead={**RIGHT.dead, STORE: {GOOD: ["invalid-status"]}}), GOOD),
        (replace(RIGHT, dead={**RIGHT.dead, LOG: {}}), BAD),
        (replace(RIGHT, dead={group: {BAD: ["attempts"]} for group in GROUPS}), BAD),
    ],
    ids=["not stored", "not logged", "buried", "in one group only", "buried for another reason"],
)
def test_what_was_answered_200_must_have_ended_right_in_each_group(found: Found, lost: str) -> None:
    """A message counts as lost if a group has neither handled it nor, if that is right, buried it for that reason."""
    verdict = judge({GOOD, BAD}, [GOOD, BAD], found)
    assert lost in " ".join(verdict.names["lost"])
    assert verdict.lost >= 1


def test_what_was_never_answered_may_be_there_or_not() -> None:
    """Only a 200 is a promise; what is there without one must still be there once, and be what was sent."""
    assert judge(set(), [GOOD], replace(RIGHT, bodies={}, statuses={}, dead=NO_DEAD)).lost == 0
    twice = replace(RIGHT, bodies={GOOD: [payloads.body(GOOD)] * 2})
    assert judge(set(), [GOOD], twice).duplicates == 1
    other = replace(RIGHT, statuses={GOOD: ["seen"]})
    assert judge(set(), [GOOD], other).wrong == 1


def test_a_seed_draws_the_same_faults_again() -> None:
    """Kinds, moments, lengths and details follow from the seed, and what shows only without Redis gets company."""
    seeds = [*range(200), *range(200)]
    drawn = [[str(one) for one in draw(random.Random(seed), KINDS, AWAY, 3)] for seed in seeds]
    assert drawn[:200] == drawn[200:]
    assert {one.partition(" ")[0] for faults in drawn for one in faults} == set(KINDS)
    for faults in drawn:
        names = {one.partition(" ")[0] for one in faults}
        assert names & AWAY.keys() or not any(KINDS[name].with_redis_away for name in names)


@pytest.mark.crash
def test_random_faults_lose_nothing_and_the_rig_is_not_blind() -> None:
    """Some rounds of a fixed seed: nothing lost, nothing twice, all drained; without the append-only file, a loss."""
    command = (sys.executable, "-m", "tests.chaos", "--rounds", "2", "--seed", SEED, "--faults", QUICK)
    run = subprocess.run(
        (*command, "--control", "no-aof", "--json"), check=False, capture_output=True, text=True, timeout=RUN_SECONDS
    )
    assert run.returncode == 0, run.stderr
    shown = orjson.loads(run.stdout)
    assert shown["failed"] == []
    assert shown["kinds"]["all"]["rounds"] == 2
