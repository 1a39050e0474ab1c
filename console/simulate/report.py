"""The report of a simulation, for people or programs."""

from collections.abc import Mapping
from typing import Any

from console.output import print_json, print_pairs


def print_report(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Show how a simulation was answered."""
    if as_json:
        print_json(report)
        return
    nested = {"answered": "", "latency_ms": " ms"}
    flat = {name: value for name, value in report.items() if name not in nested}
    for name, unit in nested.items():
        flat |= {f"{name.removesuffix('_ms')} {key}": f"{value}{unit}" for key, value in (report[name] or {}).items()}
    print_pairs(flat)
