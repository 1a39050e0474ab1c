"""The end of `ackstream up`, the files it leaves, and its use of settings, with real processes."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from console.up import valkey
from stream.settings import child_environment
from tests.support.fork_server import PYTHON
from tests.support.processes import Process, becomes, run_ackstream, runs, start_process
from tests.support.samples.events import body
from tests.support.workers.up_folder import STOP_SECONDS, UpFolder

TAKE_TERMINAL = "import fcntl, os, termios; os.dup2(1, 0); os.dup2(1, 2); fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
IGNORE_SIGHUP = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
SET_UMASK = "import os; os.umask(0o022)"


@pytest.fixture
def place(tmp_path: Path) -> UpFolder:
    return UpFolder(tmp_path)


@contextmanager
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has nothing to do with us."""
    child = subprocess.Popen((sys.executable, "-c", "import time; time.sleep(600)"))
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def start_after(preparation: str, *arguments: str, folder: Path, stdout: int | None = None) -> Process:
    """Start `ackstream ARGUMENTS` in a process that has done what a shell would do before."""
    file = folder / "prepared.py"
    file.write_text(f"{preparation}\nimport runpy\nrunpy.run_module('console', run_name='__main__', alter_sys=True)\n")
    command = (*PYTHON, str(file), *arguments)
    return start_process(command, folder, arguments[0], child_environment(log_format="json"), stdout)


def start_in_terminal(*arguments: str, folder: Path) -> tuple[Process, int]:
    """Start a command in a terminal of its own; the process, and the end that a person would see."""
    control, terminal = pty.openpty()
    try:
        process = start_after(TAKE_TERMINAL, *arguments, folder=folder, stdout=terminal)
    finally:
        os.close(terminal)
    os.set_blocking(control, False)
    return process, control


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
async def test_a_signal_that_comes_again_and_again_stops_all_of_it(place: UpFolder, number: signal.Signals) -> None:
    """`up` ends in time, and nothing that it started is left. Other tests send each signal once."""
    with place.up() as up:
        await up.has_logged("valkey.started")
        for _ in range(4):
            up.send(number)
        await up.wait_for_end(15)
        assert place.left() == []


async def test_a_closed_terminal_stops_all_of_it(place: UpFolder) -> None:
    """The terminal's end hangs up; nothing runs on without one."""
    up, control = start_in_terminal("up", *place.options, folder=place.folder)
    output = b""

    def is_up() -> bool:
        nonlocal output
        try:
            output += os.read(control, 65536)
        except BlockingIOError:
            return False
        return output.count(b"worker.started") == 1 and b"ingest.started" in output

    try:
        await becomes(is_up)
        os.close(control)
        assert await up.wait_for_end(60) == 0
        assert place.left() == []
    finally:
        up.end()


async def test_under_nohup_it_goes_on(place: UpFolder) -> None:
    """Under nohup, which ignores SIGHUP, this signal does not stop it."""
    up = start_after(IGNORE_SIGHUP, "up", *place.options, folder=place.folder)
    try:
        await up.is_ready(place.admin_port)
        up.send(signal.SIGHUP)
        assert await place.post(body()) == [200]
        up.send(signal.SIGTERM)
        assert await up.wait_for_end(STOP_SECONDS) == 0
        assert not [line for line in up.read_log("process.stopping") if line["why"] == "SIGHUP"]
    finally:
        up.end()


async def test_a_number_that_another_process_has_now_is_not_signalled(place: UpFolder) -> None:
    """The number of a killed Valkey belongs to another process, which survives although the pid file names it."""
    with sleeper() as innocent, place.up() as up:
        await up.is_ready(place.admin_port)
        (place.data / "valkey" / "valkey.pid").write_text(str(innocent.pid))
        os.kill(up.read_log("valkey.started")[0]["pid"], signal.SIGKILL)
        up.send(signal.SIGTERM)
        await up.wait_for_end(15)
        assert innocent.poll() is None
        assert place.left() == []


async def test_a_server_that_is_gone_is_not_stopped_by_its_number(tmp_path: Path) -> None:
    """Valkey was killed just before the stop: the process that has its number by then gets no signal."""
    with sleeper() as innocent:
        async with valkey.run_server(tmp_path / "valkey"):
            file = tmp_path / "valkey" / "valkey.pid"
            os.kill(int(file.read_text()), signal.SIGKILL)
            file.write_text(str(innocent.pid))
        with pytest.raises(subprocess.TimeoutExpired):
            innocent.wait(0.5)


async def test_a_server_without_its_pid_file_is_adopted(tmp_path: Path) -> None:
    """The server that runs in the folder answers, but its pid file is gone."""
    async with valkey.run_server(tmp_path) as running:
        (tmp_path / "valkey.pid").unlink()
        async with valkey.run_server(tmp_path) as adopted:
            assert adopted == running


@pytest.mark.parametrize("record", [b"{", b'{"port":0,"password":""}', b'{"port":"6379","password":""}'])
async def test_what_a_kill_has_left_is_ended_by_the_next_start(place: UpFolder, record: bytes) -> None:
    """A Valkey that does not answer, or whose password is not known any more, is ended by the lock that it holds."""
    with place.up() as first:
        await first.is_ready(place.admin_port)
        assert await place.post(body()) == [200]
        first.kill()
        os.kill(first.read_log("valkey.started")[0]["pid"], signal.SIGSTOP)
        with place.up() as second:
            await goes_on(second, place)
            second.kill()
            (place.data / "valkey" / "server.json").write_bytes(record)
            with place.up() as third:
                await goes_on(third, place)
                third.send(signal.SIGTERM)
                assert await third.wait_for_end(STOP_SECONDS) == 0
        assert place.left() == []


async def goes_on(up: Process, place: UpFolder) -> None:
    """Wait until it has started a Valkey of its own, and assert that this has the webhook."""
    await up.has_logged("valkey.started")  # until then what is ready may be what was killed
    await up.is_ready(place.admin_port)
    assert (await place.settles())["shards"][0]["length"] == 1


async def test_settings_without_effect_are_named_and_the_commands_reach_what_runs(place: UpFolder) -> None:
    """Variables for another Redis and database: warned about, and `stats` and `trace` work."""
    (place.folder / ".env").write_text("ACKSTREAM_DATABASE_URL=sqlite:////nowhere/x.db\nACKSTREAM_ADMIN_HOST=::\n")
    elsewhere = {"redis_url": "redis://:hunter2@127.0.0.1:1", "host": "::", "signature_secret": "k:hunter2"}
    with place.up(**elsewhere) as up:
        await up.is_ready(place.admin_port)
        warned = {line["setting"]: line["source"] for line in up.read_log("settings.overridden")}
        assert warned == {
            "ACKSTREAM_REDIS_URL": "environment",
            "ACKSTREAM_HOST": "environment",
            "ACKSTREAM_DATABASE_URL": ".env",
            "ACKSTREAM_ADMIN_HOST": ".env",
        }
        (unknown,) = up.read_log("settings.unknown")
        assert unknown["what"] == "did you mean ACKSTREAM_SIGNATURE_SECRETS?"
        (read,) = up.read_log("settings.read")
        assert {"data", "port", "admin_port"} == set(read["flags"])
        assert "hunter2" not in up.said
        assert await place.post(body()) == [200]
        await place.settles()
        assert place.ask("trace", "m-1")["status"] == "delivered"
        (place.folder / ".env").unlink()


async def test_any_folder_works_and_its_data_is_the_owner_s_alone(tmp_path: Path) -> None:
    """In a folder of any name webhooks are stored and traced, and no file is made outside.

    Others may look into the folder: database, log, passwords and spool are 0600, also those of before.
    """
    name = os.fsdecode("a b 50%2Foff a'b\"c what?#x naïve ☂".encode() + b" latin-\xe9")
    place = UpFolder(tmp_path)
    place.data = tmp_path / name
    place.data.mkdir(mode=0o755)
    place.data.chmod(0o755)
    (place.data / "ackstream.db").touch(mode=0o644)
    with place.up() as up:
        await up.is_ready(place.admin_port)
        assert await place.post(body()) == [200]
        await place.settles()
        assert place.ask("trace", "m-1")["status"] == "delivered"
        assert [folder["state"] for folder in place.ask("spool", "list")["folders"]] == ["in use"]
        files = [path for path in place.data.rglob("*") if path.is_file()]
        assert {path.name for path in files} >= {"ackstream.db", "ackstream.db-wal", "addresses.json", "server.json"}
        assert {path.name: oct(path.stat().st_mode)[-3:] for path in files if path.stat().st_mode & 0o077} == {}
        up.send(signal.SIGTERM)
        assert await up.wait_for_end(STOP_SECONDS) == 0
    assert not (place.data / "addresses.json").exists()
    assert {path.name for path in os.scandir(tmp_path) if path.is_dir()} == {name}


async def test_a_hanging_child_of_a_worker_does_not_outlive_it(place: UpFolder) -> None:
    """With `ACKSTREAM_PROCESSES`: at a stop the worker kills its child that hangs, before `up` kills the worker."""
    with place.up(processes="2", grace_seconds="1") as up:
        await up.has_logged("worker.started", times=2)
        (_, hanging) = [process for process in up.family() if {"worker", "--child"} <= set(process.cmdline())]
        try:
            hanging.suspend()
            up.send(signal.SIGTERM)
            assert await up.wait_for_end(60) == 0
            assert place.left() == []
        finally:
            if runs(hanging):
                hanging.kill()


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_data_folder_that_cannot_be_is_a_sentence(place: UpFolder, where: str) -> None:
    """A file in its place, or above it."""
    (place.folder / "file").touch()
    result = run_ackstream("up", "--data", where, folder=place.folder)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr + result.stdout
    assert "--data" in result.stderr


def test_a_database_that_is_made_is_its_owner_s_alone(tmp_path: Path) -> None:
    """In a folder that others may look into, made by `ackstream migrate` under any umask."""
    tmp_path.chmod(0o755)
    url = f"sqlite:///{tmp_path / 'new' / 'a.db'}"
    migrate = start_after(SET_UMASK, "migrate", "--database-url", url, folder=tmp_path)
    assert migrate.child.wait(60) == 0
    assert oct((tmp_path / "new" / "a.db").stat().st_mode)[-3:] == "600"
    assert oct((tmp_path / "new").stat().st_mode)[-3:] == "700"
