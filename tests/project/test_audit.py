"""The gate that looks for known vulnerabilities: it fails unless pip-audit has really been asked."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

AUDIT = runpy.run_path(str(Path(__file__).parents[2] / "deploy" / "audit.py"))


def judge(output: str, errors: str, code: int) -> int:
    return int(AUDIT["report"](output, errors, code))


def report(*vulnerabilities: dict[str, Any]) -> str:
    looked_up = {"name": "one", "version": "1", "vulns": list(vulnerabilities)}
    return json.dumps({"dependencies": [looked_up, {"name": "other", "skip_reason": "not found"}]})


def test_a_vulnerability_fails_the_gate(capsys: pytest.CaptureFixture[str]) -> None:
    """The gate names the vulnerability, and the version that has it fixed."""
    assert judge(report({"id": "CVE-1", "fix_versions": ["2"]}), "", 1) == 1
    assert "one 1: CVE-1, fixed in 2" in capsys.readouterr().out


def test_a_clean_report_passes() -> None:
    """Packages that the index does not know are told by their number."""
    assert judge(report(), "", 0) == 0


NETWORK = [
    "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed",
    "ERROR:pip_audit._cli:Tip: your network may be blocking this service. Try another service with `-s SERVICE`",
    "Traceback (most recent call last):\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(host='pypi.org')",
    "Traceback (most recent call last):\nrequests.exceptions.ReadTimeout: HTTPSConnectionPool(host='pypi.org')",
]


@pytest.mark.parametrize("errors", NETWORK)
def test_an_index_that_does_not_answer_passes(errors: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing network must not stop the work."""
    assert judge("", errors, 1) == 0
    assert "no index of vulnerabilities answered" in capsys.readouterr().out


FAILURES = [
    "ERROR:pip_audit._cli:invalid requirements input: deploy/dev.lock",
    "Traceback (most recent call last):\nKeyError: 'name'",
    "",
]


@pytest.mark.parametrize("errors", FAILURES)
def test_any_other_failure_of_pip_audit_fails_the_gate(errors: str) -> None:
    """A lock that cannot be parsed, a crash, no word at all."""
    assert judge("", errors, 1) == 1
    assert judge("[]", errors, 0) == 1


def test_a_missing_pip_audit_fails_the_gate() -> None:
    """Python's own message about a missing pip-audit fails the gate."""
    asked = subprocess.run((sys.executable, "-m", "pip_audit_missing"), capture_output=True, text=True, check=False)
    assert judge(asked.stdout, asked.stderr, asked.returncode) == 1
