"""``python -m deploy.coverage_bars``: the coverage of each package, from the data that `make coverage` has combined.

Exits with 1 if all packages together are below a bar, or if CONTRIBUTING.md gives no reason for a module below its own.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from coverage import Coverage

ROOT = Path(__file__).parent.parent
LINES_PERCENT = 92.0
BRANCHES_PERCENT = 85.0
MODULE_LINES_PERCENT = 85.0
"""A module below this needs a row with the reason in CONTRIBUTING.md."""
REASON = re.compile(r"^\| `([\w/]+\.py)` \|", re.MULTILINE)


def main() -> int:
    """Print the table of packages and each bar that is missed; return the exit code."""
    files = load_summaries()
    packages: dict[str, Counter[str]] = {}
    for path, summary in files.items():
        packages.setdefault(path.partition("/")[0], Counter()).update(summary)
    packages["total"] = sum(packages.values(), Counter())
    print("| package | lines | branches |\n| --- | ---: | ---: |")
    for name, counts in packages.items():
        print(f"| {name} | {lines_percent(counts):.1f} % | {branches_percent(counts):.1f} % |")
    faults = [*find_low_totals(packages["total"]), *find_missing_reasons(files, REASON.findall(read_contributing()))]
    print("".join(f"\n{fault}" for fault in faults), file=sys.stderr, end="\n" if faults else "")
    return 1 if faults else 0


def load_summaries() -> dict[str, Mapping[str, int]]:
    """Return coverage's counts of each module, by its path."""
    measured = Coverage()
    measured.load()
    with NamedTemporaryFile("r+") as file:
        measured.json_report(outfile=file.name)
        report: dict[str, Any] = json.load(file)
    return {
        path: {name: count for name, count in entry["summary"].items() if isinstance(count, int)}
        for path, entry in sorted(report["files"].items())
    }


def read_contributing() -> str:
    """Return the page with the reasons."""
    return (ROOT / "CONTRIBUTING.md").read_text()


def lines_percent(counts: Mapping[str, int]) -> float:
    """Return the share of statements that ran."""
    return 100.0 * counts["covered_lines"] / counts["num_statements"] if counts["num_statements"] else 100.0


def branches_percent(counts: Mapping[str, int]) -> float:
    """Return the share of branches that were taken."""
    return 100.0 * counts["covered_branches"] / counts["num_branches"] if counts["num_branches"] else 100.0


def find_low_totals(total: Mapping[str, int]) -> list[str]:
    """Return a sentence for each bar that the packages together miss."""
    bars = (("lines", lines_percent(total), LINES_PERCENT), ("branches", branches_percent(total), BRANCHES_PERCENT))
    return [f"{share:.1f} % of {kind} are covered; the bar is {bar} %" for kind, share, bar in bars if share < bar]


def find_missing_reasons(files: Mapping[str, Mapping[str, int]], reasons: Iterable[str]) -> list[str]:
    """Return a sentence for each module that needs a row in CONTRIBUTING.md, and for each row without a module."""
    rows = set(reasons)
    missing = [
        f"{path}: {lines_percent(summary):.1f} % of lines are covered; test it, or give the reason in CONTRIBUTING.md"
        for path, summary in files.items()
        if lines_percent(summary) < MODULE_LINES_PERCENT and path not in rows
    ]
    return missing + [f"CONTRIBUTING.md gives a reason for {path}, which is gone" for path in sorted(rows - set(files))]


if __name__ == "__main__":
    sys.exit(main())
