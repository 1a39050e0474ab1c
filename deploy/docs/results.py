"""The results of the bench that docs/benchmarks.md and its picture show: data/bench/, a file for each comparison.

``python -m deploy.docs.results`` writes the tables between the marks of the page and the picture; with ``--check`` it
only compares, and ends with 1 if they differ. ``make bench`` measures, and then does the first.
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.docs.markdown import table

FOLDER = Path(__file__).parent / "data" / "bench"
OTHERS = "others"
BUSY_LOAD = 2
WHOLE = 1000
"""From here numbers are shown without decimals."""
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"

_SECTION = re.compile(
    r"(<!-- results of (\S+), written by `make bench` -->\n)(.*?)(<!-- end of results -->)", re.DOTALL
)


def read_results() -> dict[str, Any]:
    """Return the results of each comparison by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def render(page: str) -> str:
    """Return the page with the tables of the results that there are now.

    The mark of ``others`` gets those that no other mark names. Raises KeyError for a mark without result.
    """
    results = read_results()
    tables = {name: _describe(result) for name, result in results.items()}
    rest = [f"### {name}\n\n{text}" for name, text in tables.items() if name not in names(page)]
    tables[OTHERS] = "\n\n".join(rest)
    return _SECTION.sub(lambda mark: f"{mark[1]}\n{tables[mark[2]]}\n\n{mark[4]}", page)


def names(page: str) -> list[str]:
    """Return the names of the marks on the page."""
    return [mark[2] for mark in _SECTION.finditer(page)]


def _describe(result: dict[str, Any]) -> str:
    notes = " ".join(f"{note[:1].upper()}{note[1:]}." for note in result["notes"])
    parts = [f"{_describe_source(result['source'])} {notes}".strip()]
    if ratios := result.get("ratios"):
        parts.append(_tabulate_ratios(ratios))
    if figures := result.get("figures"):
        rows = [
            (row["what"], f"{_show_range(row)} {row['unit']}", f"at most {row['limit']:g}" if row["limit"] else "")
            for row in figures
        ]
        parts.append(table(("", "median and range", "target"), rows))
    parts += [_tabulate_curve(curve) for curve in result.get("curves", ())]
    return "\n\n".join(parts)


def _tabulate_ratios(ratios: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            row["what"],
            row["against"],
            row["unit"],
            _show_range({**row, "median": row["ratio"]}),
            f"{'at most' if row['unit'].startswith('CPU') else 'at least'} {row['target']:.3g}",
        )
        for row in ratios
    ]
    return table(("", "compared with", "figure", "ratio, median and range", "target"), rows)


def _tabulate_curve(curve: dict[str, Any]) -> str:
    """Return a table with a column for each place of the curve."""
    places = [f"{point['at']:,g}" for point in max(curve["lines"].values(), key=len)]
    rows = [(name, *(_show(point["median"]) for point in points)) for name, points in curve["lines"].items()]
    return table((f"{curve['unit']}, by {curve['axis']}", *places), rows)


def _show_range(row: dict[str, Any]) -> str:
    return f"{_show(row['median'])} ({_show(row['min'])} to {_show(row['max'])})"


def _show(number: float) -> str:
    return f"{number:,.0f}" if number >= WHOLE else f"{number:.3g}"


def _describe_source(source: dict[str, Any]) -> str:
    busy = f", {source['load']} other programs wanted its cores" if source.get("load", 0) > BUSY_LOAD else ""
    rounds = f"{source['rounds']} interleaved rounds" if source["rounds"] > 1 else "one round"
    return f"{source['date']}, commit {source['commit']}, {source['machine']}{busy}, {rounds}."


def main() -> None:
    """Write the page, or with --check compare it."""
    page = PAGE.read_text()
    rendered = render(page)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(rendered)
    elif rendered != page:
        sys.exit("docs/benchmarks.md differs from its results: run `python -m deploy.docs.results`")


if __name__ == "__main__":
    main()
