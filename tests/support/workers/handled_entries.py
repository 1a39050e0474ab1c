"""Entries that a real worker has handled, for commands that look back on them."""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner, Result

from console.main import make_app
from stream.keys import Shard
from stream.redis import client as connect
from tests.support.processes import Process, ackstream
from tests.support.samples.events import RECEIVED_MS, body, entry
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.workers.recording import GROUP, MODULE
from worker.retention.archive_writer import Archive

HOUR_MS = 3_600_000
STATUSES = ("submitted", "delivered", "read")
CHANNELS = ("sms", "whatsapp")
ENTRIES = 24


@dataclass(frozen=True, slots=True)
class HandledStream:
    """A stream of statuses, an hour apart, and two groups that have handled them."""

    url: str
    shard: Shard
    folder: Path
    worker: Process

    def run(self, *arguments: str) -> Result:
        """Run one command."""
        return CliRunner().invoke(make_app(arguments), arguments)

    def json(self, *arguments: str) -> Any:
        """Run one command with --json, which has to succeed."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return orjson.loads(result.stdout)

    def ask(self, question: Callable[[Redis], Any]) -> Any:
        async def ask() -> Any:
            server = connect.client(self.url)
            try:
                return await question(server)
            finally:
                await server.aclose()

        return asyncio.run(ask())

    def calls(self) -> list[tuple[str, str, bool]]:
        """Message, attempt, and whether it was replayed, of each call."""
        lines = (self.folder / "calls.txt").read_text().splitlines()
        return [(words[1], words[2], words[3] == "True") for words in map(str.split, lines) if words[0] == "call"]

    def count_replayed(self) -> Counter[str]:
        return Counter(message_uuid for message_uuid, _, replayed in self.calls() if replayed)

    def is_settled(self) -> bool:
        """Whether no entry is left. Calls of another worker succeed, so a failure is the fault of the event."""

        async def note_success(server: Redis) -> None:
            seconds, _ = await server.time()
            await server.set(self.shard.succeeded(GROUP), seconds * 1000)

        self.ask(note_success)
        return all(group["outstanding"] == 0 for group in self.json("stats")["groups"].values())

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            self.worker.lives()
            assert time.monotonic() < deadline
            time.sleep(0.05)


def name(number: int) -> str:
    """Return the id of a message; the recorder's handler acts on it: the last two fail until their third attempt.

    The entry before them succeeds later, so the circuit breaker blames these events and not the handler.
    """
    what = "until-3" if number >= ENTRIES - 2 else "slow-0.5" if number == ENTRIES - 3 else "ok-0"
    return f"{what}-{number}"


@contextmanager
def run_handled_stream(
    url: str, shard: Shard, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HandledStream]:
    """Two groups that have handled ENTRIES statuses; one group has two dead letters. Their worker keeps running."""
    shutil.copy(MODULE, folder)
    Archive(folder / "archive").prepare()
    options = {"retry_base_seconds": "0", "retention": "off", "archive": str(folder / "archive")}
    settings = {"redis_url": url, "stream": shard.name, **options}
    for setting, value in settings.items():
        monkeypatch.setenv(f"ACKSTREAM_{setting.upper()}", value)
    handlers = ("--handler", f"{GROUP}=recorder:handle#attempts=2&concurrency=4", "--handler", "log")
    with ackstream("worker", *handlers, folder=folder, **settings) as worker:
        stream = HandledStream(url, shard, folder, worker)

        async def append(server: Redis) -> None:
            for number in range(ENTRIES):
                payload = body(message_uuid=name(number), status=STATUSES[number % 3], channel=CHANNELS[number % 2])
                account = {"account": "acme", "verified": "jwt"} if number % 4 == 0 else {}
                fields: Any = entry(payload, RECEIVED_MS + number * HOUR_MS, **account).to_fields()
                await server.xadd(shard.stream, fields, id=f"{1000 + number}-0")

        stream.ask(append)
        stream.wait_for(lambda: len(stream.json("stats")["groups"]) == 2 and stream.is_settled())
        yield stream
