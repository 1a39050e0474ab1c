"""Prints a report for people: the problems, the notes, the way of the self-test, and the verdict. 80 columns."""

import textwrap
from collections.abc import Iterator

from console.doctor.finding import Finding
from console.doctor.probe import ProbeTimes
from console.doctor.runner import PROBE, DoctorReport

WIDTH = 80


def format_report(report: DoctorReport) -> str:
    """Return the lines of a report."""
    return "\n".join([*_format_findings(report), *_format_probe(report), *_fold(format_verdict(report))]) + "\n"


def format_verdict(report: DoctorReport) -> str:
    """Return the verdict in one sentence."""
    notes = len(report.findings) - report.problems
    counts = f"{_count(report.problems, 'problem')} and {_count(notes, 'note')}"
    verdict = f"{counts} in {_count(len(report.checked), 'check')}, {report.seconds:.1f} s."
    if not report.findings:
        verdict = f"Nothing to correct: {_count(len(report.checked), 'check')}, {report.seconds:.1f} s."
    skipped = [part for part in report.skipped if part != PROBE or len(report.skipped) > 1]
    return verdict + (f" Not checked: {', '.join(skipped)}." if skipped else "")


def _format_findings(report: DoctorReport) -> Iterator[str]:
    for finding in report.findings:
        yield from _format_finding(finding)
        yield ""


def _format_finding(finding: Finding) -> Iterator[str]:
    yield f"{'PROBLEM' if finding.is_problem else 'Note'}  {finding.id}"
    yield from _fold(f"{finding.what} {finding.why}", "  ")
    yield from _fold(f"Fix: {finding.fix}", "  ", "       ")


def _format_probe(report: DoctorReport) -> Iterator[str]:
    times = report.probe
    if times is None or times.answered is None:
        return
    yield from _fold(f"Self-test: {'; '.join(_describe_way(times))}.", "", "  ")
    yield ""


def _describe_way(times: ProbeTimes) -> Iterator[str]:
    yield f"answered {times.status} after {_format_time(times.answered)}"
    if times.on_stream is not None:
        yield f"on the stream after {_format_time(times.on_stream)}"
    for group, seconds in sorted(times.settled.items()):
        yield f"settled by {group} after {_format_time(seconds)}" if seconds else f"not settled by {group}"


def _format_time(seconds: float | None) -> str:
    return "not known" if seconds is None else f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _fold(text: str, first: str = "", rest: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_on_hyphens=False,
        break_long_words=False,
    )
