"""The page of all metrics, read from the modules that define them."""

import ast
from collections.abc import Iterator
from pathlib import Path

from deploy.docs.markdown import code, page, sentence, table

ROOT = Path(__file__).parents[2]
PROCESSES = {
    "Ingest": ("ingest/metrics.py",),
    "Worker": ("worker/metrics.py",),
    "Console": ("console/web/metrics/gauges.py",),
    "Every process": ("runtime/metrics.py",),
}
KINDS = {
    "Counter": "counter",
    "Tally": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
    "DurationCounts": "histogram",
}
INTRODUCTION = """
Each process serves its metrics at `/metrics` of the admin port. The text explains the metric and
the next step when it rises; the same text is the metric's help in `/metrics`.
"""


def render() -> str:
    """Return the page."""
    parts = [
        f"## {process}\n\n" + table(("metric", "kind", "labels", "meaning"), _rows(modules))
        for process, modules in PROCESSES.items()
    ]
    return page("Metrics", INTRODUCTION, *parts)


def names() -> list[str]:
    """Return the names of all metrics."""
    return [row[0].strip("`") for modules in PROCESSES.values() for row in _rows(modules)]


def gauges(*processes: str) -> list[str]:
    """Return the names of the gauges of these processes."""
    return [name.strip("`") for process in processes for name, kind, *_ in _rows(PROCESSES[process]) if kind == "gauge"]


def _rows(modules: tuple[str, ...]) -> list[tuple[str, str, str, str]]:
    return sorted(row for module in modules for row in _definitions(ROOT / module))


def _definitions(module: Path) -> Iterator[tuple[str, str, str, str]]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
            name, meaning, *arguments = (ast.literal_eval(argument) for argument in node.args)
            suffix = "_total" if node.func.id == "Tally" else ""
            has_labels = arguments and node.func.id != "DurationCounts"
            labels = ", ".join(map(code, arguments[0])) if has_labels else ""
            yield code(name + suffix), KINDS[node.func.id], labels, sentence(meaning)
