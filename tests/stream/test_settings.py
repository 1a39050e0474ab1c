import os
from pathlib import Path

import pytest

from ingest.settings import IngestSettings
from runtime.run_file import Addresses, FolderInUse, find_running, lock_folder
from stream.settings import InvalidSettings, StreamSettings
from worker.settings import WorkerSettings


def refusal_lines(settings: type[StreamSettings], **flags: object) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        settings.load(**flags)
    return str(caught.value).splitlines()


def test_every_fault_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wrong setting has a line with its name, its value and the expected values."""
    monkeypatch.setenv("ACKSTREAM_PORT", "abc")
    monkeypatch.setenv("ACKSTREAM_LOG_FORMAT", "xml")
    monkeypatch.setenv("ACKSTREAM_SIGNATURES", "maybe")
    assert sorted(refusal_lines(IngestSettings)) == [
        "ACKSTREAM_LOG_FORMAT: 'xml' is not valid; expected text or json",
        "ACKSTREAM_PORT: 'abc' is not valid; expected a TCP port, 0 to 65535; 0 takes a free one",
        "ACKSTREAM_SIGNATURES: 'maybe' is not valid; expected required, observe or off",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_url", "http://user:hunter2@example.test"),
        ("redis_url", "redis://user:hunter2@example.test:port"),
        ("redis_url", "redis+cluster://user:hunter2@example.test/5"),
        ("redis_url", "redis+sentinel://user:hunter2@example.test:port/main"),
        ("database_url", "mysql://user:hunter2@example.test"),
        ("database_url", "postgresql://user:hunter2@example.test:port/x"),
    ],
)
def test_a_wrong_secret_is_not_shown(name: str, value: str) -> None:
    """URLs may hold passwords: the refusal names the setting, not its value."""
    (line,) = refusal_lines(WorkerSettings, **{name: value})
    assert line.startswith(f"ACKSTREAM_{name.upper()}: its value is not valid")
    assert "; expected " in line
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (WorkerSettings, "handlers", "store,nothing"),
        (WorkerSettings, "handlers", "log,log"),
        (WorkerSettings, "batch_entries", 0),
        (WorkerSettings, "retention", "7"),
        (WorkerSettings, "retention", "0d"),
        (WorkerSettings, "retention", "1w"),
        (WorkerSettings, "retention", "36501d"),
        (WorkerSettings, "retention_bytes", 1000),
        (IngestSettings, "paths", "webhooks"),
        (IngestSettings, "paths", "/a,/a"),
        (IngestSettings, "paths", "/{id}"),
        (IngestSettings, "max_body", 10),
        (StreamSettings, "stream", "a{b}"),
        (StreamSettings, "stream", ""),
    ],
)
def test_values_that_cannot_work_are_refused(settings: type[StreamSettings], name: str, value: object) -> None:
    """Each is one line, and the name of the setting comes first."""
    (line,) = refusal_lines(settings, **{name: value})
    assert line.startswith(f"ACKSTREAM_{name.upper()}: {value!r} is not valid")
    assert "; expected " in line


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("7d", 604_800_000), ("12h", 43_200_000), ("90m", 5_400_000), ("36500d", 3_153_600_000_000), ("off", None)],
)
def test_retention_is_a_number_with_a_unit(text: str, milliseconds: int | None) -> None:
    """Minutes, hours or days; off trims nothing."""
    assert WorkerSettings.load(retention=text).retention_ms == milliseconds


def test_the_stronger_source_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Flag before variable before file before .env before default."""
    assert StreamSettings.load().redis_url == "redis://127.0.0.1:6379"
    secret = tmp_path / "secret"
    (tmp_path / ".env").write_text("ACKSTREAM_REDIS_URL=redis://from-dotenv\nACKSTREAM_LOG_FORMAT=json\n")
    assert StreamSettings.load().redis_url == "redis://from-dotenv"
    assert StreamSettings.load().log_format == "json"
    secret.write_text("redis://from-file\n")
    monkeypatch.setenv("ACKSTREAM_REDIS_URL_FILE", str(secret))
    assert StreamSettings.load().redis_url == "redis://from-file"
    monkeypatch.setenv("ACKSTREAM_REDIS_URL", "redis://from-variable")
    assert StreamSettings.load().redis_url == "redis://from-variable"
    assert StreamSettings.load(redis_url="redis://from-flag").redis_url == "redis://from-flag"


def test_a_secret_file_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the variable and the path."""
    monkeypatch.setenv("ACKSTREAM_DATABASE_URL_FILE", "/nowhere/secret")
    with pytest.raises(InvalidSettings, match=r"ACKSTREAM_DATABASE_URL_FILE: '/nowhere/secret' cannot be read"):
        WorkerSettings.load()


def test_the_database_is_in_the_data_folder_by_default(tmp_path: Path) -> None:
    """SQLite in --data, unless a URL says otherwise."""
    assert WorkerSettings.load(data=tmp_path).database_url == f"sqlite:///{tmp_path}/ackstream.db"


def test_a_running_up_is_found_in_its_data_folder_and_a_dead_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The addresses of a running `up` count while its folder is locked: more than a variable, less than a flag."""
    lock = lock_folder(tmp_path)
    addresses = Addresses("redis://:secret@127.0.0.1:1", "sqlite:////x", "http://i", "http://a", "http://w", "http://c")
    addresses.write(tmp_path)
    assert oct((tmp_path / "addresses.json").stat().st_mode)[-3:] == "600"
    assert find_running(tmp_path) == addresses
    assert WorkerSettings.load(data=tmp_path).redis_url == addresses.redis_url
    assert WorkerSettings.load(data=tmp_path).database_url == addresses.database_url
    with pytest.raises(FolderInUse, match="another `ackstream up`"):
        lock_folder(tmp_path)
    monkeypatch.setenv("ACKSTREAM_REDIS_URL", "redis://set")
    assert WorkerSettings.load(data=tmp_path).redis_url == addresses.redis_url
    assert WorkerSettings.load(data=tmp_path, redis_url="redis://flag").redis_url == "redis://flag"
    monkeypatch.setenv("ACKSTREAM_DATA", str(tmp_path))
    assert WorkerSettings.load().origins() == {
        "ackstream up": ["redis_url", "database_url"],
        "environment": ["data"],
    }
    os.close(lock)
    assert find_running(tmp_path) is None
    assert WorkerSettings.load().redis_url == "redis://set"


def test_signatures_are_required_unless_switched_off() -> None:
    """Required is the default, and refuses without a secret; observe and off start."""
    assert IngestSettings.load().signatures == "required"
    with pytest.raises(InvalidSettings, match="set ACKSTREAM_SIGNATURE_SECRETS=api_key:secret"):
        IngestSettings.load().verifier  # noqa: B018 - raises
    assert IngestSettings.load(signatures="off").verifier is None
    assert IngestSettings.load(signatures="observe").verifier is not None
