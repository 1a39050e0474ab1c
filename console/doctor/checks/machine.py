"""Checks the machine: Python, the installed packages, and the limit of open files."""

import platform
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from console.doctor.finding import Finding, make_finding
from console.doctor.setup import Setup
from ingest.http.descriptors import RESERVED_FILES

END_OF_LIFE: Mapping[str, str] = {
    "3.11": "2027-10-31",
    "3.12": "2028-10-31",
    "3.13": "2029-10-31",
    "3.14": "2030-10-31",
}
"""The last days of Python's versions: https://devguide.python.org/versions/."""


async def check_machine(setup: Setup) -> Sequence[Finding]:
    """Return the findings about Python, packages and limits."""
    today = time.strftime("%Y-%m-%d", time.gmtime(setup.clock()))
    findings = [*judge_python(platform.python_version(), today), *judge_packages(requires("ackstream") or ())]
    if setup.ingest is not None:
        findings += judge_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1], setup.ingest.connections)
    return findings


def judge_python(number: str, today: str) -> Iterator[Finding]:
    """Yield a finding if this version of Python gets no fixes any more. ``today`` is an ISO date."""
    date = END_OF_LIFE.get(number.rpartition(".")[0], "9999")
    if today > date:
        yield make_finding("python.end-of-life", version=number, date=date)


def judge_packages(requirements: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding for each installed package whose version is not one of those that Ackstream needs."""
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and "dev" in str(requirement.marker):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:  # an extra that is not installed; the command that needs it says so
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wanted = str(requirement.specifier)
            yield make_finding("python.package", package=requirement.name, version=installed, wanted=wanted)


def judge_files(limit: int, connections: int) -> Iterator[Finding]:
    """Yield a finding if the system's limit of open files is too low for the connections."""
    needed = connections + RESERVED_FILES
    if limit not in (resource.RLIM_INFINITY, -1) and limit < needed:
        possible = max(1, limit - RESERVED_FILES)
        yield make_finding("machine.open-files", possible=possible, wanted=connections, needed=needed)
