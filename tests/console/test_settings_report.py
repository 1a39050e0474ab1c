"""A process reports the sources and the faults of its settings at its start."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from console.settings_report import report_settings
from ingest.settings import IngestSettings
from stream.settings import StreamSettings
from tests.support.commands import run_command
from worker.settings import WorkerSettings


def capture_report(settings: StreamSettings) -> dict[str, list[dict[str, Any]]]:
    """Return the log lines of the report by event."""
    with capture_logs() as lines:
        report_settings(settings)
    return {
        event: [dict(line) for line in lines if line["event"] == event]
        for event in ("settings.read", "settings.unknown")
    }


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("ACKSTREAM_SIGNATURE_SECRET", "ACKSTREAM_SIGNATURE_SECRETS"),
        ("ACKSTREAM_SIGNATURE", "ACKSTREAM_SIGNATURES"),
        ("ACKSTREAM_REDISURL", "ACKSTREAM_REDIS_URL"),
        ("ackstream_prot", "ACKSTREAM_PORT"),
        ("ACKSTREAM_RETENTIONS", "ACKSTREAM_RETENTION"),
    ],
)
def test_an_unknown_name_is_reported_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, wrong: str, right: str
) -> None:
    """One log line has the name and its source, never its value."""
    monkeypatch.setenv(wrong, "hunter2")
    lines = capture_report(IngestSettings.load(signatures="off"))
    (unknown,) = lines["settings.unknown"]
    assert (unknown["setting"], unknown["source"]) == (wrong.upper(), "environment")
    assert unknown["what"] == f"did you mean {right}?"
    assert "hunter2" not in str(lines)


def test_the_names_of_other_commands_are_not_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One `.env` can serve ingest and worker; `_FILE` variables and empty ones are not unknown either."""
    (tmp_path / "secret").write_text("k:s")
    (tmp_path / ".env").write_text("ACKSTREAM_RETENTION=3d\nACKSTREAM_MAX_BODY=4096\nOTHER=1\n")
    monkeypatch.setenv("ACKSTREAM_SIGNATURE_SECRETS_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("ACKSTREAM_NOTHING", "")
    for settings in (IngestSettings.load(), WorkerSettings.load()):
        assert capture_report(settings)["settings.unknown"] == []


def test_each_source_is_reported_with_its_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A setting is listed under the source with the highest precedence."""
    (tmp_path / ".env").write_text("ACKSTREAM_PORT=1\nACKSTREAM_ACK=stream\nACKSTREAM_MAX_BODY=4096\n")
    monkeypatch.setenv("ACKSTREAM_PORT", "2")
    monkeypatch.setenv("ACKSTREAM_ACK", "stream")
    (line,) = capture_report(IngestSettings.load(port=3))["settings.read"]
    assert {name: line[name] for name in ("flags", "environment", "env")} == {
        "flags": ["port"],
        "environment": ["ack"],
        "env": ["max_body"],
    }


@pytest.mark.parametrize("variable", ["ACKSTREAM_CONSOLE_SCRAPE", "ACKSTREAM_CONSOLE_INGEST_URL"])
def test_an_invalid_url_of_the_console_has_its_reason(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that there is not is named with the setting."""
    monkeypatch.setenv(variable, "http://host:99999")
    error = run_command("console").error
    assert f"{variable}: 'http://host:99999' is not valid" in error
    assert "1 to 65535" in error
