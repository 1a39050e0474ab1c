"""Reads the notes of `support/handlers/ordered.py`, and finds calls that order mode forbids."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from stream.entry import EntryId


@dataclass(slots=True)
class OrderReport:
    """What the handler has seen."""

    calls: int = 0
    handled: set[str] = field(default_factory=set)
    """The entries of calls that ended without an error."""
    tried: set[str] = field(default_factory=set)
    overlaps: list[str] = field(default_factory=list)
    disorders: list[str] = field(default_factory=list)
    forgiven: int = 0
    """Calls that went back to an entry whose settlement a fail-over has lost."""

    @property
    def faults(self) -> list[str]:
        """All calls that order mode forbids, in words."""
        return [*self.overlaps, *self.disorders]


def check_order(lines: Iterable[str], unsettled: Collection[str] = ()) -> OrderReport:
    """Check the notes in the order in which they were written.

    A call overlaps with another one only if that one has noted something later: a killed process notes nothing. Entries
    that a server has forgotten to be settled, ``unsettled``, may come again after later ones.
    """
    report = OrderReport()
    running: dict[str, tuple[str, str]] = {}
    overtaken: dict[tuple[str, str, str], str] = {}
    latest: dict[str, EntryId] = {}
    for word, message, entry, pid in map(str.split, lines):
        if word != "start":
            if fault := overtaken.pop((message, entry, pid), None):
                report.overlaps.append(fault)
            if running.get(message) == (entry, pid):
                del running[message]
            if word == "end":
                report.handled.add(entry)
            continue
        report.calls += 1
        comes_again = entry in report.tried and entry in unsettled
        report.tried.add(entry)
        if message in running:
            overtaken[message, *running[message]] = f"{message}: {entry} by {pid} during {running[message]}"
        origin = EntryId.from_text(entry)
        is_back = message in latest and origin < latest[message]
        report.forgiven += is_back and comes_again
        if is_back and not comes_again:
            report.disorders.append(f"{message}: {entry} by {pid} after {latest[message]}")
        running[message] = entry, pid
        latest[message] = max(origin, latest.get(message, origin))
    return report


def read_report(folder: Path, unsettled: Collection[str] = ()) -> OrderReport:
    """Check the notes in this folder."""
    file = folder / "calls.txt"
    return check_order(file.read_text().splitlines() if file.exists() else (), unsettled)
