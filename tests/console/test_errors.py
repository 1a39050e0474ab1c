"""Each error that a user can cause prints one sentence with the reason and the next step."""

import asyncio
import os
import secrets
import subprocess
import sys
from contextlib import suppress
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from redis.asyncio import Redis

from console.__main__ import main
from console.output import confirm, print_line
from runtime.errors import CommandError
from tests.support.commands import run_command
from tests.support.databases import make_sqlite
from tests.support.servers.redis_users import add_user
from worker.store.migrate import migrate_at

AWAY = "redis://127.0.0.1:1"
POSTGRESQL_AWAY = "postgresql://u:hunter2@127.0.0.1:1/d"
READS_REDIS = ("stats", "groups list", "dead-letters list", "replay list", "replay plan", "quarantine list")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", [*READS_REDIS, "groups resume g", "groups drop g", "replay pause r"])
def test_redis_that_is_away_is_named_with_the_next_step(command: str) -> None:
    """The error has the address, the system's reason, and the command or setting that helps."""
    error = run_command(*command.split(), "--redis-url", "redis://u:hunter2@127.0.0.1:1").error
    assert "Redis at redis://127.0.0.1:1 does not answer (Connection refused)" in error
    assert "start `ackstream up`, or set ACKSTREAM_REDIS_URL" in error
    assert "hunter2" not in error


@pytest.mark.parametrize("url", ["redis+cluster://127.0.0.1:1,127.0.0.1:2", "redis+sentinel://127.0.0.1:1/primary"])
def test_a_cluster_or_sentinels_that_are_away_are_named(url: str) -> None:
    """The error does not advise to start `ackstream up`, which starts one server."""
    error = run_command("stats", "--redis-url", url).error
    assert "no sentinel names a primary, or no node of the cluster answers; start them" in error
    assert "ackstream up" not in error


def test_an_entry_id_that_redis_cannot_have_is_named() -> None:
    """Redis would refuse it as an error that looks like a fault of this program."""
    error = run_command("dead-letters", "show", "0/99999999999999999999-0", "--group", "g").error
    assert "'0/99999999999999999999-0' is not an entry id: its numbers have 64 bits at most" in error


@pytest.mark.parametrize("command", ["trace x", "migrate"])
def test_a_database_that_is_away_is_named_without_its_password(command: str) -> None:
    """The error has the address, the system's reason, and the setting."""
    error = run_command(*command.split(), "--database-url", POSTGRESQL_AWAY).error
    assert "postgresql://127.0.0.1:1/d does not answer (Connection refused)" in error
    assert "ACKSTREAM_DATABASE_URL" in error
    assert "hunter2" not in error


@pytest.fixture
async def user_url(server: Redis, valkey_url: str) -> str:
    """The URL of a Redis user whose only command is PING."""
    return await add_user(server, valkey_url, f"user-{secrets.token_hex(4)}", "-@all", "+ping")


async def test_a_right_that_a_script_lacks_is_named(server: Redis, valkey_url: str) -> None:
    """The error names the command that the Redis user may not run, and the file with all rights."""
    rights = ("~*", "+@all", "-hmget")
    url = await add_user(server, valkey_url, f"user-{secrets.token_hex(4)}", *rights)
    error = (await asyncio.to_thread(run_command, "groups", "list", "--redis-url", url)).error
    assert "no permissions to run the 'hmget' command" in error
    assert "deploy/redis-users.acl" in error


async def test_redis_faults_keep_the_words_of_redis(user_url: str, valkey_url: str, server: Redis) -> None:
    """A wrong password, a missing right, a key of another type and a wrong database number each have a next step."""
    stream = f"foreign-{secrets.token_hex(4)}"
    await server.set(f"{stream}:{{0}}:groups", "not a set")
    wrong_password = user_url.replace(":secret@", ":hunter2@")
    expected = {
        (wrong_password, "s"): ("WRONGPASS", "check the user and the password"),
        (user_url, "s"): ("NOPERM", "deploy/redis-users.acl"),
        (valkey_url, stream): ("WRONGTYPE", "set ACKSTREAM_STREAM to another name"),
        (f"{valkey_url}/999", "s"): ("no database with this number", "ACKSTREAM_REDIS_URL"),
    }
    for (url, name), (word, step) in expected.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ACKSTREAM_STREAM", name)
            error = (await asyncio.to_thread(run_command, "stats", "--redis-url", url)).error
        assert word in error
        assert step in error
        assert "hunter2" not in error


@pytest.mark.parametrize("command", ["up --data F", "up --data F/x", "trace x --data F", "migrate --data F"])
def test_a_data_folder_that_is_a_file_is_an_error(command: str, folder: Path) -> None:
    """The error names the path or the database, and the option --data."""
    (folder / "F").touch()
    error = run_command(*command.split()).error
    assert "F" in error
    assert "--data" in error


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("ACKSTREAM_REDIS_URL", "redis://h/?foo=1", "options that are not supported: foo"),
        ("ACKSTREAM_REDIS_URL", "http://u:hunter2@h", "the scheme is not known"),
        ("ACKSTREAM_STREAM", "a b", "ACKSTREAM_STREAM: 'a b' is not valid"),
    ],
)
def test_a_refused_setting_keeps_its_reason(
    variable: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the reason and the expected form, and no secret."""
    monkeypatch.setenv(variable, value)
    error = run_command("stats").error
    assert sentence in error
    assert "; expected " in error
    assert "hunter2" not in error


def test_the_reason_of_a_refused_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the invalid item by its number, never by its text."""
    monkeypatch.setenv("ACKSTREAM_SIGNATURE_SECRETS", "key:secret,hunter2")
    error = run_command("quarantine", "accept", "--all", "--redis-url", AWAY).error
    assert "item 2 is not written api_key:secret" in error
    assert "hunter2" not in error


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite:///:memory:", "sqlite://x", "nonsense", "postgresql://h:port/d"])
def test_a_database_url_that_cannot_be_used_is_refused(url: str) -> None:
    """The error is one line that names the setting."""
    error = run_command("trace", "x", "--database-url", url).error
    assert "ACKSTREAM_DATABASE_URL" in error
    assert len(error.splitlines()) == 1


def test_a_file_of_another_kind_than_a_database_is_an_error(folder: Path) -> None:
    """The error has the reason that SQLite gives."""
    (folder / "x.db").write_bytes(b"no database" * 1000)
    assert "file is not a database" in run_command("trace", "x", "--database-url", "sqlite:///x.db").error


@pytest.mark.parametrize("command", ["stats", "trace x", "replay list", "ingest"])
def test_an_env_file_that_is_not_utf8_is_an_error(command: str, folder: Path) -> None:
    """The error names the file and the first invalid byte."""
    (folder / ".env").write_bytes(b"ACKSTREAM_STREAM=caf\xe9\n")
    assert ".env cannot be read (byte 20 is not UTF-8)" in run_command(*command.split()).error


@pytest.mark.parametrize("command", [*READS_REDIS, "trace x"])
def test_a_wrong_worker_setting_stops_no_other_command(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command loads only the settings that it needs."""
    for name, value in {"handlers": "nonsense", "retention": "never", "port": "x", "grace_seconds": "x"}.items():
        monkeypatch.setenv(f"ACKSTREAM_{name.upper()}", value)
    monkeypatch.setenv("ACKSTREAM_REDIS_URL", AWAY)
    error = run_command(*command.split()).error
    assert "does not answer" in error or "no database at" in error


@pytest.mark.parametrize("command", [*READS_REDIS, "trace x", "groups resume g", "dead-letters show 0/1-1"])
def test_a_command_that_reads_creates_nothing(command: str, folder: Path, valkey_url: str, server: Redis) -> None:
    """A read command creates no folder, database or key."""
    del server
    stream = f"nothing-{secrets.token_hex(4)}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACKSTREAM_STREAM", stream)
        patch.setenv("ACKSTREAM_REDIS_URL", valkey_url)
        outcome = run_command(*command.split())
    assert outcome.code in (0, 1)
    assert "Traceback" not in outcome.stderr
    assert list(folder.iterdir()) == []
    assert asyncio.run(_keys(valkey_url, stream)) == []


async def _keys(url: str, stream: str) -> list[bytes]:
    async with Redis.from_url(url) as server:
        return [key async for key in server.scan_iter(f"{stream}*")]


def test_trace_before_the_first_start_names_the_command_to_start() -> None:
    """Without a database, the error names its path and the command that creates it."""
    error = run_command("trace", "x").error
    assert "no database at ackstream-data/ackstream.db yet: start `ackstream up`" in error


def test_tables_of_another_version_are_an_error(folder: Path) -> None:
    """The error names `ackstream migrate`."""
    (folder / "old.db").touch()
    assert "run `ackstream migrate`" in run_command("trace", "x", "--database-url", "sqlite:///old.db").error


def test_an_archive_that_is_a_file_is_named(folder: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the archive and its fault, and does not blame Redis."""
    (folder / "archive").touch()
    monkeypatch.setenv("ACKSTREAM_ARCHIVE", str(folder / "archive"))
    error = run_command("replay", "plan", "--archive", "--redis-url", valkey_url).error
    assert "archive" in error
    assert "Not a directory" in error
    assert "does not answer" not in error


def test_an_argument_that_is_not_utf8_is_named(folder: Path) -> None:
    """The database does not take it, and is not at fault."""
    make_sqlite(folder / "ackstream.db")
    error = run_command("trace", os.fsdecode(b"m-\xff"), "--data", str(folder)).error
    assert "m-\\udcff is not UTF-8: check the arguments" in error


def test_a_secret_that_is_not_utf8_is_not_printed(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error quotes no text that is not an argument of its own."""
    url = valkey_url.replace("redis://:", os.fsdecode(b"redis://:hunter2\xff"))
    key = os.fsdecode(b"hunter2-hunter2-hunter2-hunter2-\xff")
    argument = run_command("stats", "--redis-url", url).error
    monkeypatch.setenv("ACKSTREAM_REDIS_URL", url)
    monkeypatch.setenv("ACKSTREAM_NUMBER_KEY", key)
    listed, exported = run_command("groups", "list").error, run_command("export", "--number", "+4477009001").error
    for error in (argument, listed, exported):
        assert "a setting, or a part of a URL, is not UTF-8: check the arguments, the settings" in error
        assert "hunter2" not in error


def test_a_terminal_of_another_encoding_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that it cannot show cause no error, and bytes that are no text are an answer like any other."""
    output = TextIOWrapper(BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"\xff\n"), encoding="utf-8"))
    monkeypatch.setattr(sys, "argv", ["ackstream", "--version"])
    with suppress(SystemExit):
        main()
    print_line("é…")
    with pytest.raises(CommandError, match="nothing is done"):
        confirm("really?")
    assert output.buffer.getvalue().endswith(b"\\xe9\\u2026\n")


def test_an_error_of_this_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug keeps its traceback, because a bug report needs it."""

    def fail(_url: str) -> None:
        raise KeyError

    monkeypatch.setattr("console.ask.client", fail)
    with pytest.raises(KeyError):
        run_command("stats")


def _ackstream(*arguments: str, **outputs: object) -> "subprocess.CompletedProcess[bytes]":
    command = (sys.executable, "-P", "-m", "console", *arguments)
    return subprocess.run(command, check=False, stderr=subprocess.PIPE, timeout=240, **outputs)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("arguments", [("--version",), ("replay", "run", "--help")])
def test_a_closed_pipe_causes_no_traceback(arguments: tuple[str, ...]) -> None:
    """If its reader is gone, the command exits and prints nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    process = _ackstream(*arguments, stdout=writer)
    os.close(writer)
    assert (process.returncode in (1, 141), process.stderr) == (True, b"")


def test_a_full_or_closed_output_causes_no_traceback() -> None:
    """A full device is an error on standard error; a closed output is not an error."""
    with Path("/dev/full").open("wb") as full:
        process = _ackstream("--help", stdout=full)
    assert process.returncode == 1
    assert b"No space left on device" in process.stderr
    assert b"Traceback" not in process.stderr
    closed = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -P -m console --help >&-"],
        check=False,
        stderr=subprocess.PIPE,
        timeout=240,
    )
    assert (closed.returncode, closed.stderr) == (0, b"")


def test_migrate_twice_says_that_the_tables_are_up_to_date(folder: Path) -> None:
    """A second `migrate` succeeds and prints that the tables are up to date."""
    asyncio.run(migrate_at(f"sqlite:///{folder}/a.db"))
    outcome = run_command("migrate", "--database-url", f"sqlite:///{folder}/a.db")
    assert (outcome.code, outcome.stdout) == (0, "the tables are up to date\n")
