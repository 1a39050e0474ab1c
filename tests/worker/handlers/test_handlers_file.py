"""Handlers from a file with one handler per line."""

from pathlib import Path

import pytest

from stream.settings import InvalidSettings
from worker.settings import WorkerSettings

URL = "https://example.test/hook?a=1,2&b=3"


def file_of(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "handlers.conf"
    file.write_text(text)
    return file


def test_a_file_has_one_handler_per_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments and empty lines are ignored, and a comma needs no escape."""
    text = f"# the tables\nstore\n\n  log#batch=5  \r\n\t# the shop\nshop=forward:{URL}#header.X-Team=sms, rcs\n"
    monkeypatch.setenv("ACKSTREAM_HANDLERS_FILE", str(file_of(tmp_path, text)))

    specs = WorkerSettings.load().specs

    assert [spec.group for spec in specs] == ["store", "log", "shop"]
    assert (specs[2].url, specs[2].options.headers[0].value) == (URL, "sms, rcs")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("store\n\nnothing\n", "line 3: 'nothing' is not a handler: write store, log, package.module:function or"),
        ("store\nlog\nstore#batch=3\n", "line 3: the group 'store' has a handler already"),
        ("shop=forward:ftp://hunter2\n", "line 1: the URL is not written http"),
        ("log#speed=1\n", "line 1: 'speed' is not an option of this handler: it takes attempts, base, batch"),
        ("store,log\n", "line 1: 'store,log' is not a handler"),
        ("# nothing\n\n", "it names no handler: write one per line"),
        ("", "it names no handler"),
    ],
)
def test_an_error_in_the_file_names_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str
) -> None:
    """The error names the setting, the file, the line and the correct form, and shows no URL."""
    file = file_of(tmp_path, text)
    monkeypatch.setenv("ACKSTREAM_HANDLERS_FILE", str(file))

    with pytest.raises(InvalidSettings) as caught:
        _ = WorkerSettings.load().specs

    assert str(caught.value).startswith(f"ACKSTREAM_HANDLERS_FILE: '{file}', {sentence}")
    assert "hunter2" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, a folder, or a binary file gives a sentence with the path."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "binary"):
        monkeypatch.setenv("ACKSTREAM_HANDLERS_FILE", str(path))
        with pytest.raises(InvalidSettings, match=rf"^ACKSTREAM_HANDLERS_FILE: '{path}' cannot be read \(.+\): "):
            _ = WorkerSettings.load().specs


def test_both_settings_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The intended setting is unclear, except that a flag overrides both."""
    monkeypatch.setenv("ACKSTREAM_HANDLERS_FILE", str(file_of(tmp_path, "log\n")))
    monkeypatch.setenv("ACKSTREAM_HANDLERS", "store")

    with pytest.raises(InvalidSettings, match="ACKSTREAM_HANDLERS and ACKSTREAM_HANDLERS_FILE are both set: unset one"):
        _ = WorkerSettings.load().specs

    assert [spec.group for spec in WorkerSettings.load(handlers="mine:handle").specs] == ["mine:handle"]


def test_an_invalid_handler_in_the_variable_is_named_by_its_place() -> None:
    """The error has its place, the reason, and the list of valid forms."""
    with pytest.raises(InvalidSettings) as caught:
        WorkerSettings.load(handlers="store,nothing")

    assert "handler 2: 'nothing' is not a handler: write store, log, package.module:function or forward:URL" in str(
        caught.value
    )


def test_an_invalid_file_of_handlers_stops_only_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a worker reads the file."""
    monkeypatch.setenv("ACKSTREAM_HANDLERS_FILE", str(tmp_path / "missing"))

    assert WorkerSettings.load().redis_url
