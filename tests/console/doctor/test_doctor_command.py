"""`ackstream doctor`: its output, its exit code, and its table of findings."""

import re
import string
from pathlib import Path

import orjson
import pytest

import console.doctor
from console.commands import doctor
from console.doctor import runner
from console.doctor.finding import make_finding, read_catalogue, sort_findings
from console.doctor.report import format_report
from tests.support.checkup import Installation
from tests.support.commands import run_command
from tests.support.samples.signed import SECRET

AWAY = "redis://:a-password@127.0.0.1:1"


@pytest.mark.on_disk  # a spool in memory is a finding too
def test_without_anything_it_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Redis, no database and no process: exit code 1, a fix for each in 80 columns, and no secret."""
    monkeypatch.setattr(doctor, "PROGRESS_SECONDS", 0.001)

    answer = run_command("doctor", "--redis-url", AWAY)

    assert answer.code == 1
    assert [line.split()[1] for line in answer.stdout.splitlines() if line.startswith(("PROBLEM", "Note"))] == [
        "settings.invalid",
        "redis.unusable",
        "database.missing",
    ]
    assert answer.stdout.count("  Fix: ") == 3
    assert "3 problems and 0 notes" in answer.stdout
    assert "Not checked: " in answer.stdout
    assert answer.stderr.startswith("still checking ")
    assert max(map(len, answer.stdout.splitlines())) <= 80
    assert "a-password" not in answer.stdout + answer.stderr


def test_settings_of_the_stream_that_are_not_valid_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finding is the only one, also as JSON: nothing else can be checked."""
    monkeypatch.setenv("ACKSTREAM_STREAM", "with blanks")

    answer = run_command("doctor", "--json")

    (finding,) = orjson.loads(answer.stdout)["findings"]
    assert (answer.code, finding["id"], set(finding)) == (1, "settings.invalid", {"id", "severity", "what", "fix"})


def test_a_role_limits_the_checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with a worker only needs no signature secret and no spool; an unknown role is refused."""
    monkeypatch.setenv("ACKSTREAM_HANDLERS", "log")
    (tmp_path / "ackstream-data").mkdir()
    (tmp_path / "ackstream-data" / "spool").touch()

    answer = run_command("doctor", "--redis-url", AWAY, "--role", "worker", "--no-probe", "--json")
    refused = run_command("doctor", "--role", "nobody")

    assert [finding["id"] for finding in orjson.loads(answer.stdout)["findings"]] == ["redis.unusable"]
    assert "--role is one of ingest, worker, console" in refused.error


async def test_a_check_that_fails_hides_no_other_finding(healthy: Installation) -> None:
    """The finding names the check and the class of the error; its text may hold a value."""

    async def fail(_setup: object) -> list[object]:
        raise ValueError(SECRET)

    healthy.monkeypatch.setitem(runner.CHECKS, "this machine", fail)
    healthy.set({"SIGNATURES": "observe"})

    report = await healthy.run()

    assert [finding.id for finding in report.findings] == ["check.failed", "signatures.observe"]
    assert SECRET not in format_report(report)


def test_every_finding_of_the_table_is_used() -> None:
    """Each id is in the code, each text has its parts as fields, and no code names an id that the table lacks."""
    folder = Path(console.doctor.__file__).parent
    code = "".join(path.read_text() for path in folder.rglob("*.py"))
    named = set(re.findall(r'"([a-z]+\.[a-z-]+)"', code)) | {"settings.unknown", "settings.overridden"}

    assert read_catalogue().keys() == {name for name in named if name.partition(".")[0] in _areas()}
    for kind in read_catalogue().values():
        fields = [name for text in (kind.what, kind.why, kind.fix) for _, name, _, _ in string.Formatter().parse(text)]
        assert all(name is None or name.isidentifier() for name in fields)


def _areas() -> set[str]:
    return {name.partition(".")[0] for name in read_catalogue()}


def test_problems_come_first_and_once() -> None:
    """Notes follow, and a finding that two checks make is shown once."""
    note, problem = make_finding("signatures.observe"), make_finding("tls.expired", server="x")

    assert sort_findings([note, problem, note]) == [problem, note]
