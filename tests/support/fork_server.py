"""A fork server: a process that has imported the product, and forks one that runs a command whenever a test starts it.

Importing costs most of a start. The forked process is like any other: it has its own id, session, folder,
environment and output, and receives real signals.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PYTHON = (sys.executable, "-P")
"""How a command starts that the server can run."""
IMPORTED = ("console.main", "console.settings_report", "ingest.app", "worker.app", "worker.store.handler", "asyncpg")
BEFORE_IMPORTS = frozenset({"AIOHTTP_NO_EXTENSIONS", "LD_PRELOAD"})
"""Variables that the loader or an imported library reads only once."""
REQUEST_BYTES = 1 << 20
LOOK_SECONDS = 0.005


@dataclass(slots=True)
class Forked:
    """A process that the server has forked, with the part of `subprocess.Popen`'s interface that tests use."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = _server().ask({"poll": self.pid})
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

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def can_fork(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a fork equals a new interpreter: not where a variable has its effect before or during the imports."""
    return tuple(command[: len(PYTHON)]) == PYTHON and not BEFORE_IMPORTS & environment.keys()


def fork(command: Sequence[str], folder: Path, environment: Mapping[str, str], stdout: int, stderr: int) -> Forked:
    """Start the command in this folder, with this environment and these outputs, in a session of its own."""
    request = {"arguments": command[len(PYTHON) :], "folder": str(folder), "environment": dict(environment)}
    return Forked(_server().ask(request, stdout, stderr))


class _Server:
    """The test's side: one server for all tests of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a test may wait for a command in a thread
        self._connection, theirs = socket.socketpair()
        with theirs:
            command = (*PYTHON, __file__, str(theirs.fileno()))
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        atexit.register(self._close)

    def ask(self, request: Mapping[str, Any], *files: int) -> Any:
        with self._lock:
            socket.send_fds(self._connection, [json.dumps(request).encode() + b"\n"], files)
            reply = self._connection.recv(REQUEST_BYTES)
        assert reply, "the fork server has ended"
        return json.loads(reply)

    def _close(self) -> None:
        self._connection.close()
        self._process.wait()


@functools.cache
def _server() -> _Server:
    return _Server()


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """Answer requests until the test's process ends. In each process that is forked: return the request."""
    while True:
        data, files, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 2)
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
    for file, number in zip(files, (1, 2), strict=True):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))


def run(arguments: Sequence[str]) -> None:
    """Run what `python ARGUMENTS` runs: `-m MODULE …` or `FILE …`."""
    if arguments[0] == "-m":
        sys.argv = list(arguments[1:])
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    importlib.import_module("stream.redis.lean_import").import_redis()  # as the processes do
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # a collection in a forked process would copy all objects
    accepted = serve(socket.socket(fileno=int(sys.argv[1])))
    if accepted is not None:
        run(accepted["arguments"])
