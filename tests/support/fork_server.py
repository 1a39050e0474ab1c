"""A fork server: a process that has imported the product, and forks one that runs a command whenever a test starts it.

Importing costs most of a start, so all processes of a run of the tests share one server. It imports when the first of
them asks, and forks a server for each. A process that this forks is like any other: it has its own id, session, folder,
environment and output, and receives real signals.
"""

import atexit
import ctypes
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = __file__
PYTHON = (sys.executable, "-P")
"""How a command starts that the server can run."""
IMPORTED = (
    *("console.main", "console.ask", "console.output", "console.processes", "console.settings_report"),
    *("console.up", "console.up.demo_traffic", "console.up.processes", "console.simulate.progress", "console.web.app"),
    *("ingest.app", "worker.app", "worker.store.handler", "worker.store.migrate"),
    *("asyncpg", "encodings.idna"),
)
"""What the commands import that tests start often; some import it when they run."""
BEFORE_IMPORTS = frozenset({"AIOHTTP_NO_EXTENSIONS", "LD_PRELOAD"})
"""Variables that the loader or an imported library reads only once."""
REQUEST_BYTES = 1 << 20
PARENTS = frozenset({"up", "demo", "--processes"})
"""The commands, and the option, that start further processes."""
MOST_FILES = 16
TITLE_BYTES = 2000
ADDRESS = "FORK_SERVER"
"""The variable with the path of the server's socket."""
LOOK_SECONDS = 0.005

_exit_codes: list[int] = []


@dataclass(slots=True)
class Forked:
    """A process that the server has forked, with the part of `subprocess.Popen`'s interface that tests use."""

    pid: int
    server: "ForkServer"
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self.server.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code once it has ended. Raises TimeoutExpired."""
        deadline = time.monotonic() + timeout if timeout is not None else None
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(LOOK_SECONDS)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing once it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def can_fork(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a fork equals a new interpreter: not where a variable has its effect before or during the imports."""
    return tuple(command[: len(PYTHON)]) == PYTHON and not BEFORE_IMPORTS & environment.keys()


def fork(command: Sequence[str], folder: Path, environment: Mapping[str, str], stdout: int, stderr: int) -> Forked:
    """Start the command in this folder, with this environment and these outputs, in a session of its own."""
    return fork_with(command, folder, environment, {1: stdout, 2: stderr})


def fork_with(command: Sequence[str], folder: Path, environment: Mapping[str, str], files: Mapping[int, int]) -> Forked:
    """Start the command with our file descriptors as those of these numbers."""
    return _get_server().fork(command, folder, environment, files)


class ForkServer:
    """The side of the process whose children the server forks."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()  # a test may wait for a command in a thread

    def fork(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], files: Mapping[int, int]
    ) -> Forked:
        """Start the command, with our file descriptors as those of these numbers."""
        request = {
            "command": command,
            "folder": os.fsdecode(folder),
            "environment": dict(environment),
            "files": list(files),
        }
        return Forked(self.ask(request, *files.values()), self)

    def ask(self, request: Mapping[str, Any], *files: int) -> Any:
        """Return the reply to a request."""
        with self._lock:
            socket.send_fds(self._connection, [json.dumps(request).encode() + b"\n"], files)
            reply = self._connection.recv(REQUEST_BYTES)
        assert reply, "the fork server has ended"
        return json.loads(reply)

    def close(self) -> None:
        """Let the server end."""
        self._connection.close()


@functools.cache
def _get_server() -> ForkServer:
    """Return the server of this process."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(open_address())
    server = ForkServer(connection)
    atexit.register(server.close)
    return server


_started: list["subprocess.Popen[bytes]"] = []
"""Kept: a fork of this process forgets what is registered for the end, and would warn about a server that runs."""


def open_address() -> str:
    """Return the address for this process and its children; start what answers there, unless a parent has done so.

    It ends with the process that started it.
    """
    if address := os.environ.get(ADDRESS):
        return address
    folder = tempfile.mkdtemp(prefix="ackstream-fork-")
    os.environ[ADDRESS] = address = f"{folder}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        command = (*PYTHON, FILE, str(listener.fileno()), " " * TITLE_BYTES)
        process = subprocess.Popen(
            command, cwd="/", stdin=subprocess.PIPE, pass_fds=[listener.fileno()], start_new_session=True
        )
    _started.append(process)
    atexit.register(shutil.rmtree, folder)
    atexit.register(process.communicate)  # closes its standard input, which ends it
    return address


def leave_address() -> None:
    """Let this process start a server of its own when it needs one."""
    os.environ.pop(ADDRESS, None)


def serve_clients(listener: socket.socket) -> dict[str, Any] | None:
    """Fork a server for each client, until standard input ends. In each process that these fork: return the request."""
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        import_once()
        if os.fork() == 0:
            listener.close()
            with Path(os.devnull).open() as nothing:
                os.dup2(nothing.fileno(), 0)
            return serve(connection)
        connection.close()
    with suppress(ChildProcessError):
        while True:
            os.wait()
    return None


@functools.cache
def import_once() -> None:
    """Import what the forked processes need."""
    importlib.import_module("console.lean_import").import_lean()  # as the processes do
    for name in IMPORTED:
        importlib.import_module(name)
    importlib.import_module("console.main").make_app()  # imports all commands
    gc.freeze()  # a collection in a forked process would copy all objects


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """Answer requests until the other side ends. In each process that is forked: return the request."""
    while True:
        data, files, _, _ = socket.recv_fds(connection, REQUEST_BYTES, MOST_FILES)
        while data and not data.endswith(b"\n"):
            data += connection.recv(REQUEST_BYTES)
        if not data:
            return None
        request: dict[str, Any] = json.loads(data)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            reply = os.waitstatus_to_exitcode(status) if pid else None
        elif (reply := os.fork()) == 0:
            connection.close()
            _take_over(request, files)
            return request
        for file in files:
            os.close(file)
        connection.send(json.dumps(reply).encode())


def _take_over(request: dict[str, Any], files: Sequence[int]) -> None:
    """Make this process what a new interpreter would be that was started as requested."""
    os.setsid()
    os.chdir(request["folder"])
    numbers = request["files"]
    copies = [fcntl.fcntl(file, fcntl.F_DUPFD, 1 + max(*numbers, *files)) for file in files]
    for file in files:
        os.close(file)
    for copy, number in zip(copies, numbers, strict=True):
        os.dup2(copy, number)
        os.close(copy)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))


def show_command(command: Sequence[str]) -> None:
    """Let `ps` and `/proc` show this command: tests find a process by it. It replaces the fork server's arguments."""
    if sys.platform == "linux":
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
        title = b"\0".join(map(os.fsencode, command))[: end - start - 1]
        ctypes.memmove(start, title.ljust(end - start, b"\0"), end - start)


def run(arguments: Sequence[str]) -> None:
    """Run what `python ARGUMENTS` runs: `-m MODULE …` or `FILE …`."""
    if arguments[0] == "-m":
        sys.argv = list(arguments[1:])
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments)
        runpy.run_path(arguments[0], run_name="__main__")


def run_request(request: dict[str, Any]) -> None:
    """Run the command of a request. Its children are forked too, where the system has what that needs."""
    command = request["command"]
    has_children = not PARENTS.isdisjoint(command) or "ACKSTREAM_PROCESSES" in request["environment"]
    if sys.platform == "linux" and has_children and "--child" not in command:
        child = importlib.import_module("tests.support.forked_child").fork_children()
        if child is not None:
            run_request(child)
            return
    show_command(command)
    try:
        run(command[len(PYTHON) :])
    except SystemExit as end:
        _exit_codes.append(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    _exit_codes.append(0)


def leave() -> None:
    """End this process, as the last one of its exit functions, if its command has ended.

    Python would take all modules apart, and so copy all memory that the process shares: nine tenths of the processor
    time of a short command.
    """
    if _exit_codes:
        for output in filter(None, (sys.stdout, sys.stderr)):
            output.flush()
        os._exit(_exit_codes[0])


if __name__ == "__main__":
    atexit.register(leave)  # the first one that is registered runs last
    accepted = serve_clients(socket.socket(fileno=int(sys.argv[1])))
    if accepted is not None:
        run_request(accepted)
