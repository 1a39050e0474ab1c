"""Settings are shown with their sources, and secrets never."""

from pathlib import Path

import orjson
import pytest

from console.queries.run.settings_in_force import ProcessLines, load_lines
from ingest.settings import IngestSettings
from stream.process_report import SettingLine, describe_settings
from stream.settings import StreamSettings
from worker.settings import WorkerSettings

CANARY = "hunter2canary"
BASE64_CANARY = "d2hzZWMtY2FuYXJ5LWh1bnRlcjI="


def lines_of(kind: type[StreamSettings], **flags: str) -> dict[str, SettingLine]:
    """Return the lines by name."""
    return {line.name: line for line in describe_settings(kind.load(**flags))}


def test_each_setting_has_its_value_and_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Flags, the environment, files, `.env` and defaults have names of their own."""
    (tmp_path / ".env").write_text("ACKSTREAM_RETENTION=3d\n")
    (tmp_path / "database").write_text("postgresql://ida:hunter2@db:5432/ackstream")
    monkeypatch.setenv("ACKSTREAM_DEAD_LETTERS", "5")
    monkeypatch.setenv("ACKSTREAM_DATABASE_URL_FILE", str(tmp_path / "database"))
    lines = lines_of(WorkerSettings, handlers="log")
    shown = {name.removeprefix("ACKSTREAM_"): (line.value, line.source) for name, line in lines.items()}
    assert shown["HANDLERS"] == ("log", "a flag of the command")
    assert shown["DEAD_LETTERS"] == ("5", "environment")
    assert shown["RETENTION"] == ("3d", ".env")
    assert shown["DATABASE_URL"] == (
        "postgresql://db:5432/ackstream",
        "the file of ACKSTREAM_DATABASE_URL_FILE (environment)",
    )
    assert shown["LOG_REVEAL"] == ("false", "default")
    assert shown["ARCHIVE"] == (None, "default")


@pytest.mark.parametrize("from_file", [False, True])
def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, from_file: bool) -> None:
    """Each secret setting shows how many values it has, or its address."""
    values = {
        "REDIS_URL": f"redis://user:{CANARY}@redis:6379/0?password={CANARY}",
        "DATABASE_URL": f"postgresql://user:{CANARY}@db/ackstream?password={CANARY}",
        "SIGNATURE_SECRETS": f"key1:{CANARY},key2:{CANARY}",
        "FORWARD_SECRETS": f"whsec_{BASE64_CANARY},crm=whsec_{BASE64_CANARY}",
        "HANDLERS": f"store,crm=forward:https://host/{CANARY}#header.X={CANARY}",
    }
    for name, value in values.items():
        (tmp_path / name).write_text(value)
        is_file = from_file and name != "HANDLERS"
        monkeypatch.setenv(f"ACKSTREAM_{name}{'_FILE' if is_file else ''}", str(tmp_path / name) if is_file else value)
    lines = lines_of(IngestSettings) | lines_of(WorkerSettings)
    shown = orjson.dumps([line.summary() for line in lines.values()]).decode()
    assert CANARY not in shown
    assert BASE64_CANARY not in shown
    assert lines["ACKSTREAM_REDIS_URL"].value == "redis://redis:6379/0"
    assert lines["ACKSTREAM_DATABASE_URL"].value == "postgresql://db/ackstream"
    for name in ("SIGNATURE_SECRETS", "FORWARD_SECRETS", "HANDLERS"):
        assert lines[f"ACKSTREAM_{name}"].value == "set, 2 values"


def test_a_wrong_setting_is_named_without_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that would not start has the reason instead of its settings."""
    monkeypatch.setenv("ACKSTREAM_FORWARD_SECRETS", CANARY)
    worker = load_lines("worker", WorkerSettings)
    assert isinstance(worker, ProcessLines)
    assert not worker.lines
    assert "ACKSTREAM_FORWARD_SECRETS" in worker.fault
    assert CANARY not in worker.fault
