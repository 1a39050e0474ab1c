"""The page of the checks: an operator runs them, and everybody sees the last report."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from console.web.access.roles import Role
from console.web.pages.run.checks import DoctorReply
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.waiting import until

PAGE = "/checks"
TWIN = "/api/v1/doctor"


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    """A console whose ingest does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    async with run_console(tmp_path, valkey_url, shard.name, console_ingest_url=url) as running:
        yield running


async def test_an_operator_runs_the_checks_and_a_viewer_reads_the_report(console: ConsoleServer) -> None:
    """The report has each finding with its fix; the audit log names the person and the result."""
    async with console.visit(Role.VIEWER) as viewer, console.visit(Role.OPERATOR) as operator:
        before = await viewer.get(PAGE)
        refused = [(await viewer.post(PAGE)).status, (await viewer.post(TWIN, json={})).status]
        started = await operator.post(PAGE)

        async def has_report() -> bool:
            return (await viewer.get(TWIN)).json()["at"] is not None

        await until(has_report)
        after = await viewer.get(PAGE)
        report = DoctorReply.model_validate((await viewer.get(TWIN)).json())

    assert "Not checked yet" in before.text
    assert refused == [403, 403]
    assert (started.status, started.headers["Location"]) == (303, PAGE)
    assert [finding.id for finding in report.findings] == ["probe.unreachable", "group.none"]
    assert all(finding.fix in after.text for finding in report.findings)
    assert "1 problem" in after.text
    (entry,) = await console.read_audit("doctor")
    assert (entry["action"], entry["count"]) == ("doctor.run", 2)
    assert entry["result"].startswith("1 problem and 1 note")


async def test_two_who_start_the_checks_share_a_run(console: ConsoleServer) -> None:
    """Both get the same report, and the audit log has one entry."""
    async with console.visit() as one, console.visit() as other:
        answers = await asyncio.gather(one.post(TWIN, json={}), other.post(TWIN, json={}))

    reports = [DoctorReply.model_validate(answer.json()) for answer in answers]
    assert reports[0] == reports[1]
    assert len(await console.read_audit("doctor")) == 1
