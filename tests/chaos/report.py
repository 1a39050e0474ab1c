"""The report of a run, for people and for programs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos.checker.provider import BUSY, NONE
from tests.chaos.rounds import Round


@dataclass(slots=True)
class Line:
    """The sums of several rounds: of all, or of those with a kind of fault."""

    rounds: int = 0
    acked: int = 0
    stored: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    spooled: int = 0
    busy: int = 0
    unanswered: int = 0
    slowest_ms: float = 0.0
    drain_seconds: float = 0.0
    lost: int = 0
    duplicates: int = 0
    failed: int = 0

    def add(self, played: Round) -> None:
        analysis = played.outcome.analysis
        self.rounds += 1
        self.acked += analysis.acked
        self.stored += analysis.stored
        self.dead = dict(Counter(self.dead) + Counter(analysis.dead))
        self.spooled += played.tally.spooled
        self.busy += played.tally.answers.get(BUSY, 0)
        self.unanswered += played.tally.answers.get(NONE, 0)
        self.slowest_ms = max(self.slowest_ms, played.tally.slowest_ms)
        self.drain_seconds = max(self.drain_seconds, played.outcome.drain_seconds)
        self.lost += analysis.lost
        self.duplicates += analysis.duplicates
        self.failed += bool(played.failures)


HEADS = (
    "",
    "rounds",
    "acked",
    "stored",
    "dead",
    "spooled",
    "503",
    "no answer",
    "slowest ms",
    "drained s",
    "lost",
    "dupl.",
    "failed",
)


def lines(rounds: Iterable[Round]) -> dict[str, Line]:
    """Return a line for each kind of fault, and one for all; a round with two kinds counts in the line of each."""
    sums: dict[str, Line] = {}
    total = Line()
    for played in rounds:
        total.add(played)
        for kind in played.plan.kinds:
            sums.setdefault(kind, Line()).add(played)
    return {**dict(sorted(sums.items())), "all": total}


def table(rounds: Sequence[Round]) -> str:
    """Return the lines as a table."""
    rows = [HEADS, *(_cells(name, line) for name, line in lines(rounds).items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _cells(name: str, line: Line) -> tuple[str, ...]:
    figures = (line.rounds, line.acked, line.stored, sum(line.dead.values()), line.spooled, line.busy, line.unanswered)
    ends = (
        f"{line.slowest_ms:.0f}",
        f"{line.drain_seconds:.1f}",
        str(line.lost),
        str(line.duplicates),
        str(line.failed),
    )
    return (name, *map(str, figures), *ends)


def describe(played: Round) -> Iterator[str]:
    """Yield the lines that describe a round."""
    analysis, answers = played.outcome.analysis, played.tally.answers
    yield (
        f"    {analysis.acked} acked, {analysis.stored} stored, dead letters {analysis.dead or 0}, "
        f"{played.tally.spooled} spooled, {answers.get(BUSY, 0)} times 503, {answers.get(NONE, 0)} without an answer, "
        f"slowest {played.tally.slowest_ms:.0f} ms, drained in {played.outcome.drain_seconds} s, "
        f"lost {analysis.lost}, duplicates {analysis.duplicates}; {played.seconds:.0f} s"
    )
    if played.still_seconds:
        yield f"    this machine stalled for {played.still_seconds:.0f} s: the times of this round mean little"
    for failure in played.failures:
        yield f"    FAILED: {failure}"


def as_json(rounds: Sequence[Round]) -> dict[str, Any]:
    return {
        "kinds": {name: asdict(line) for name, line in lines(rounds).items()},
        "failed": [
            {"round": str(played.plan), "failures": list(played.failures)} for played in rounds if played.failures
        ],
    }
