"""A folder with the data of an `ackstream up`."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types

from console.queries.stats import gather_stats
from console.up.valkey import find_free_port
from stream.keys import Shard
from stream.redis.client import client
from stream.settings import child_environment
from tests.support.http.load import JSON
from tests.support.processes import ACKSTREAM, Process, run_ackstream, runs, start_process
from tests.support.waiting import until
from worker.settings import WorkerSettings

STOP_SECONDS = 15.0


class UpFolder:
    """A folder with the data of an `ackstream up`, and its ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.command: tuple[str, ...] = ACKSTREAM
        self.port, self.admin_port, self.console_port = find_free_port(), find_free_port(), find_free_port()
        self.url = f"http://127.0.0.1:{self.port}/webhooks/message-status"

    @property
    def options(self) -> tuple[str, ...]:
        ports = {"--port": self.port, "--admin-port": self.admin_port, "--console-port": self.console_port}
        return "--data", str(self.data), *(text for name, port in ports.items() for text in (name, str(port)))

    @contextmanager
    def up(self, command: str = "up", **settings: str) -> Iterator[Process]:
        """Run `ackstream up`, or `demo`, for the length of a block."""
        environment = child_environment(**{"log_format": "json", **settings})
        process = start_process((*self.command, command, *self.options), self.folder, "up", environment)
        try:
            yield process
        finally:
            process.end()

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run another command to its end, with only `--data` to go by."""
        return run_ackstream(*arguments, "--data", str(self.data), folder=self.folder)

    def ask(self, *arguments: str) -> Any:
        """Return the JSON of a command; None if it exits with 1."""
        answered = self.run(*arguments, "--json")
        return None if answered.returncode else orjson.loads(answered.stdout)

    async def post(self, *bodies: bytes) -> list[int]:
        """Send webhooks; their answers."""
        async with aiohttp.ClientSession(headers=JSON) as http:
            return [(await http.post(self.url, data=payload)).status for payload in bodies]

    async def settles(self) -> Mapping[str, Any]:
        """The answer of `stats`, once both groups have nothing left to do."""
        settings = WorkerSettings.load(data=self.data)
        server = client(settings.redis_url)

        async def is_done() -> bool:  # asked here: a command takes a second of its own
            groups = (await gather_stats(server, [Shard(settings.stream)]))["groups"]
            return {name: group["outstanding"] for name, group in groups.items()} == {"store": 0, "log": 0}

        try:
            await until(is_done)
        finally:
            await server.aclose()
        stats: Mapping[str, Any] = self.ask("stats")
        return stats

    def left(self) -> list[str]:
        """The names of the processes that run on the folder."""
        return sorted(process.name() for process in psutil.process_iter() if runs(process) and self._is_on(process))

    def _is_on(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return str(self.data) in process.cmdline() or process.cwd().startswith(str(self.data))
        return False
