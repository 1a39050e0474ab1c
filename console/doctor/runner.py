"""Runs all checks at once, each within its time. A check that does not end is a finding, too."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.doctor.checks.archive import check_archive
from console.doctor.checks.certificates import check_certificates
from console.doctor.checks.database import check_database
from console.doctor.checks.files import check_files
from console.doctor.checks.handlers import check_handlers
from console.doctor.checks.machine import check_machine
from console.doctor.checks.processes import check_processes
from console.doctor.checks.settings import check_settings
from console.doctor.checks.signatures import check_signatures
from console.doctor.checks.spool import check_spool
from console.doctor.finding import Finding, make_finding, sort_findings
from console.doctor.probe import ProbeTimes, run_probe
from console.doctor.redis.access import check_access
from console.doctor.redis.groups import check_groups
from console.doctor.redis.key_types import name_wrong_keys
from console.doctor.redis.server import check_redis, describe_fault, find_fault
from console.doctor.setup import Setup
from stream.redis.client import name_error
from stream.redis.errors import BUSY, WRONG_TYPE, identify_fault

CHECK_SECONDS = 20.0
PROBE = "the self-test"
Check = Callable[[Setup], Awaitable[Sequence[Finding]]]
RedisCheck = Callable[[Redis, Setup], Awaitable[Sequence[Finding]]]

CHECKS: dict[str, Check] = {
    "the settings": check_settings,
    "the signatures": check_signatures,
    "this machine": check_machine,
    "the files": check_files,
    "the handlers": check_handlers,
    "the certificates": check_certificates,
    "the processes": check_processes,
    "the database": check_database,
    "the archive": check_archive,
}
REDIS_CHECKS: dict[str, RedisCheck] = {
    "the Redis server": check_redis,
    "the access to Redis": check_access,
    "the groups": check_groups,
}
"""They need a server that answers."""


@dataclass(slots=True)
class DoctorReport:
    """The result of a run."""

    findings: list[Finding] = field(default_factory=list)
    probe: ProbeTimes | None = None
    checked: list[str] = field(default_factory=list)
    """The parts that were checked."""
    skipped: list[str] = field(default_factory=list)
    """The parts that were not, because Redis does not answer, or by choice."""
    seconds: float = 0.0

    @property
    def problems(self) -> int:
        """The number of problems."""
        return sum(finding.is_problem for finding in self.findings)

    def summary(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return {
            "findings": [finding.summary() for finding in self.findings],
            "probe": self.probe and self.probe.summary(),
            "checked": self.checked,
            "skipped": self.skipped,
            "seconds": self.seconds,
        }


def report_invalid(text: str) -> DoctorReport:
    """Return the report for settings of the stream that are not valid: nothing else can be checked."""
    finding = make_finding("settings.invalid", process="all processes", text="; ".join(text.splitlines()).rstrip("."))
    return DoctorReport([finding], checked=["the settings"], skipped=[*list(CHECKS)[1:], *REDIS_CHECKS, PROBE])


class Doctor:
    """One run of all checks. ``pending`` has the parts that are being checked, for a progress display."""

    def __init__(self, setup: Setup, *, with_probe: bool = True, check_seconds: float = CHECK_SECONDS) -> None:
        self._setup = setup
        self._with_probe = with_probe
        self._check_seconds = check_seconds
        self._report = DoctorReport()
        self.pending: list[str] = []

    async def run(self) -> DoctorReport:
        """Run all checks. Raises nothing but a cancellation."""
        started, setup = time.perf_counter(), self._setup
        server = setup.open_server()
        try:
            async with asyncio.TaskGroup() as tasks:
                for part, check in CHECKS.items():
                    tasks.create_task(self._run(part, check(setup)))
                tasks.create_task(self._run("the spool", check_spool(server, setup)))
                tasks.create_task(self._run_with_redis(server))
        finally:
            await server.aclose()
        report = self._report
        report.findings = sort_findings(report.findings)
        report.checked, report.skipped = sorted(report.checked), sorted(report.skipped)
        report.seconds = round(time.perf_counter() - started, 2)
        return report

    async def _run_with_redis(self, server: Redis) -> None:
        fault = await find_fault(server, self._setup)
        parts = [*REDIS_CHECKS, *([PROBE] if self._with_probe else [])]
        if not self._with_probe:
            self._report.skipped.append(PROBE)
        if fault is not None:
            self._report.findings.append(fault)
            self._report.skipped += parts
            return
        async with asyncio.TaskGroup() as tasks:
            for part, check in REDIS_CHECKS.items():
                tasks.create_task(self._run(part, check(server, self._setup)))
            if self._with_probe:
                tasks.create_task(self._run(PROBE, self._probe(server)))

    async def _probe(self, server: Redis) -> Sequence[Finding]:
        self._report.probe, findings = await run_probe(server, self._setup)
        return findings

    async def _run(self, part: str, check: Awaitable[Sequence[Finding]]) -> None:
        self.pending.append(part)
        try:
            async with asyncio.timeout(self._check_seconds):
                findings = await check
        except TimeoutError:
            findings = [make_finding("check.no-answer", part=part, seconds=f"{self._check_seconds:g}")]
        except RedisError as exc:  # Redis has answered the first command of the run, but not this one
            findings = [await self._explain(exc, part)]
        except Exception as exc:  # noqa: BLE001 - a fault of one check must not hide the findings of the others
            findings = [make_finding("check.failed", part=part, error=type(exc).__name__)]
        finally:
            self.pending.remove(part)
        self._report.findings += [finding for finding in findings if finding not in self._report.findings]
        self._report.checked.append(part)

    async def _explain(self, error: RedisError, part: str) -> Finding:
        fault = identify_fault(error)
        if fault is WRONG_TYPE:
            async with self._setup.open_server() as server:
                return describe_fault(self._setup, fault, await name_wrong_keys(server, self._setup.stream))
        if fault is BUSY:
            return describe_fault(self._setup, fault, name_error(error))
        return make_finding("check.failed", part=part, error=name_error(error))
