"""The processes of the outage scenario: Valkey, an ingest process that can be killed, and a worker that stores."""

import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import create_engine, text

from bench.rig import consumption
from bench.rig.databases import Sqlite
from bench.rig.processes import HOST, await_port, environment, program, run_process
from console.up import valkey
from console.up.valkey import find_free_port
from stream.keys import Shard

LOOK_SECONDS = 0.05
LOADED_SECONDS = 60.0
STORED_SECONDS = 300.0


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Return as soon as the condition holds. Raises AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it took longer than {seconds:g} s"
        time.sleep(LOOK_SECONDS)


class Valkey:
    """A server as ``ackstream up`` configures it, on one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._server = valkey.Server(folder, find_free_port(), "outage")
        self._server.write()
        self._child: subprocess.Popen[bytes] | None = None
        self.url = self._server.url
        self.client = Redis.from_url(self.url, protocol=2, socket_timeout=30)

    @contextmanager
    def run(self) -> Iterator[Self]:
        """Run it for the length of the block."""
        try:
            self.start()
            yield self
        finally:
            self.client.close()
            self.kill()

    def start(self) -> None:
        """Start it; return when it has loaded its data."""
        command = (valkey.find_binary(), str(self._server.folder / "valkey.conf"))
        self._child = subprocess.Popen(
            command, cwd=self._server.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers, LOADED_SECONDS)

    def kill(self) -> None:
        """End it at once."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def freeze(self) -> None:
        """Stop its processes with SIGSTOP."""
        assert self._child is not None
        self._child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue after ``freeze``."""
        assert self._child is not None
        self._child.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with suppress(RedisError):
            return bool(self.client.ping())
        return False


class Ingest:
    """``ackstream ingest`` on one core, always on the same port and data folder."""

    path = "/webhooks/message-status"

    def __init__(self, folder: Path, redis_url: str, core: int) -> None:
        self.port, self._admin_port = find_free_port(), find_free_port()
        self._core = core
        self._folder = folder
        self._environment = environment(
            signatures="off",
            redis_url=redis_url,
            port=str(self.port),
            admin_port=str(self._admin_port),
            data=str(folder / "data"),
        )
        self._stack = ExitStack()
        self._child: subprocess.Popen[bytes] | None = None

    @contextmanager
    def run(self) -> Iterator[Self]:
        """Run it for the length of the block."""
        with self._stack:
            self.start()
            yield self

    def start(self) -> None:
        """Start it; return when it listens on the admin port, which is opened last."""
        command = program("ackstream"), "ingest"
        self._child = self._stack.enter_context(
            run_process(*command, core=self._core, folder=self._folder, environment=self._environment)
        )
        await_port(self._admin_port, self._child)

    def kill(self) -> None:
        """End it at once."""
        assert self._child is not None
        self._child.kill()
        self._child.wait()

    def metrics(self) -> Mapping[str, float]:
        """Return its metrics without labels."""
        with urllib.request.urlopen(f"http://{HOST}:{self._admin_port}/metrics", timeout=5) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return {line.name: line.value for family in families for line in family.samples if not line.labels}


@dataclass(frozen=True, slots=True)
class Stored:
    """The events and messages that a worker stored from the stream."""

    entries: int
    events: int
    messages: frozenset[str]

    @classmethod
    def of(cls, folder: Path, valkey_: Valkey, core: int) -> "Stored":
        """Let a worker store the stream."""
        url = Sqlite(folder).fresh()
        settings = environment(redis_url=valkey_.url, database_url=url, data=str(folder / "data"))
        command = program("ackstream"), "worker", "--handler", "store"
        client, stream = valkey_.client, Shard().stream
        with run_process(*command, core=core, folder=folder, environment=settings):
            until(lambda: consumption.count_settled(client, stream, "store") == client.xlen(stream), STORED_SECONDS)
        engine = create_engine(url)
        with engine.connect() as connection:
            events = connection.execute(text("SELECT count(*) FROM status_events")).scalar_one()
            messages = frozenset(connection.execute(text("SELECT message_uuid FROM messages")).scalars())
        engine.dispose()
        length: Any = client.xlen(stream)
        return cls(length, events, messages)
