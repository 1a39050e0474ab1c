"""What a process says of its settings when it starts."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from console.settings_report import report_settings
from ingest.settings import IngestSettings
from stream.settings import StreamSettings
from worker.settings import WorkerSettings


def reported(settings: StreamSettings) -> dict[str, list[dict[str, Any]]]:
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
def test_a_name_that_means_nothing_is_named_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, wrong: str, right: str
) -> None:
    """Once, with where it stands; its value is never shown."""
    monkeypatch.setenv(wrong, "hunter2")
    lines = reported(IngestSettings.load(signatures="off"))
    (unknown,) = lines["settings.unknown"]
    assert (unknown["setting"], unknown["source"]) == (wrong.upper(), "environment")
    assert unknown["what"] == f"did you mean {right}?"
    assert "hunter2" not in str(lines)


def test_what_any_command_knows_is_not_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One `.env` for ingest and worker, secrets in files, and variables that are empty."""
    (tmp_path / "secret").write_text("k:s")
    (tmp_path / ".env").write_text("ACKSTREAM_RETENTION=3d\nACKSTREAM_MAX_BODY=4096\nOTHER=1\n")
    monkeypatch.setenv("ACKSTREAM_SIGNATURE_SECRETS_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("ACKSTREAM_NOTHING", "")
    for settings in (IngestSettings.load(), WorkerSettings.load()):
        assert reported(settings)["settings.unknown"] == []


def test_each_source_is_named_with_what_it_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The strongest one that has a setting."""
    (tmp_path / ".env").write_text("ACKSTREAM_PORT=1\nACKSTREAM_ACK=stream\nACKSTREAM_MAX_BODY=4096\n")
    monkeypatch.setenv("ACKSTREAM_PORT", "2")
    monkeypatch.setenv("ACKSTREAM_ACK", "stream")
    (read,) = reported(IngestSettings.load(port=3))["settings.read"]
    assert {name: read[name] for name in ("flags", "environment", "env")} == {
        "flags": ["port"],
        "environment": ["ack"],
        "env": ["max_body"],
    }
