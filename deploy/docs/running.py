"""A running `ackstream up` on a folder of its own, for pages and pictures that show what real commands print."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Protocol

from console.up.valkey import find_free_port
from runtime import run_file

START_SECONDS = 60.0
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Running:
    """Its data folder, its port, and the environment of commands."""

    data: Path
    port: int
    environment: Mapping[str, str]

    def post(self, payload: bytes, headers: Mapping[str, str] | None = None) -> int:
        """Send a webhook; return the status of the answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/webhooks/message-status", payload, dict(headers or {}))
            return connection.getresponse().status
        finally:
            connection.close()


class Child(Protocol):
    """A process that can be ended."""

    def terminate(self) -> None:
        """Ask it to end."""

    def wait(self, timeout: float) -> object:
        """Return once it has ended. Raises TimeoutExpired."""


Start = Callable[[Sequence[str], Path, Mapping[str, str]], Child]
"""Starts `ackstream` with these arguments, in this folder and environment."""


def start_ackstream(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Child:
    """Start the command in an interpreter of its own."""
    command = (sys.executable, "-m", "console", *arguments)
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def run_up(folder: Path, start: Start = start_ackstream, **settings: str) -> Iterator[Running]:
    """Run `ackstream up` in the folder for the length of a block. Raises TimeoutError if it does not get ready."""
    data, port = folder / "ackstream-data", find_free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACKSTREAM_")}
    environment |= {f"ACKSTREAM_{name.upper()}": value for name, value in settings.items()}
    ports = ("--port", str(port), "--admin-port", str(find_free_port()), "--console-port", str(find_free_port()))
    process = start(("up", *ports), folder, environment)
    try:
        await_condition(lambda: run_file.find_running(data) is not None and _is_ready(port))
        yield Running(data, port, environment)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200  # noqa: PLR2004 - the code
    except OSError:
        return False
    finally:
        connection.close()


def await_condition(condition: Callable[[], object]) -> None:
    """Return when the condition is true. Raises TimeoutError if it does not get true in time."""
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("`ackstream up` is not ready: run it by hand to see why")
        time.sleep(LOOK_SECONDS)
