"""One finding of ``ackstream doctor``, and the table of all of them, which ``catalogue.toml`` holds."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path


class FindingSeverity(StrEnum):
    """How urgent a finding is."""

    PROBLEM = "problem"
    """Work stops, or data can be lost."""
    NOTE = "note"
    """It can wait."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact that somebody should change: its consequence, and the next step. No text holds a secret."""

    id: str
    severity: FindingSeverity
    what: str
    why: str
    fix: str

    @property
    def is_problem(self) -> bool:
        """Whether the exit code of ``doctor`` is 1 because of it."""
        return self.severity is FindingSeverity.PROBLEM

    def summary(self) -> dict[str, str]:
        """Return a dictionary for JSON."""
        return {"id": self.id, "severity": self.severity.value, "what": f"{self.what} {self.why}", "fix": self.fix}


@cache
def read_catalogue() -> Mapping[str, Finding]:
    """Return all findings by their id. ``make_finding`` fills in the ``{names}`` in their texts."""
    table = tomllib.loads((Path(__file__).parent / "catalogue.toml").read_text())
    return {
        name: Finding(name, FindingSeverity(row["severity"]), row["what"], row["why"], row["fix"])
        for name, row in table.items()
    }


def make_finding(name: str, /, **values: object) -> Finding:
    """Return the finding with this id. The values fill in its texts."""
    kind = read_catalogue()[name]
    what, why, fix = (text.format_map(values) for text in (kind.what, kind.why, kind.fix))
    return Finding(name, kind.severity, what, why, _capitalize(fix))


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings without repetitions: problems first, then by the order of the table."""
    places = {name: place for place, name in enumerate(read_catalogue())}
    unique = dict.fromkeys(findings)
    return sorted(unique, key=lambda finding: (not finding.is_problem, places[finding.id], finding.what))


def _capitalize(text: str) -> str:
    """Start a sentence with a capital letter; a command stays as it is."""
    return text if text.startswith(("ackstream ", "chmod ", "pip ")) else text[:1].upper() + text[1:]
