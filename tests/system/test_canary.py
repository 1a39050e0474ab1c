"""A secret and a phone number sent through every path appear in nothing that anyone sees."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from console.up.valkey import find_free_port
from stream.keys import Shard
from tests.support.processes import Ingest, Process, ackstream, becomes, run_ackstream
from tests.support.samples.events import body
from tests.support.samples.signed import ACCOUNT, bearer
from tests.support.waiting import until

NUMBER = "447700900987"
SECRET = "canary-secret-0123456789"  # noqa: S105 - of the test
PLAIN = {"to": NUMBER, "from": f"+{NUMBER}"}


@dataclass(slots=True)
class CanarySystem:
    """Ingest and a worker, and everything that they have shown to anyone."""

    ingest: Ingest
    worker: Process
    worker_admin_port: int
    folder: Path
    settings: dict[str, str]
    shown: dict[str, str] = field(default_factory=dict)

    async def post(self, name: str, payload: bytes, *headers: tuple[str, str], path: str = "") -> int:
        """Send a webhook, and note the answer."""
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.ingest.url}{path}", data=payload, headers=headers) as answer,
        ):
            self.shown[f"answer to {name}"] = f"{answer.headers}{await answer.text()}"
            return answer.status

    def run(self, *arguments: str) -> str:
        """Run a command, and note what it says."""
        result = run_ackstream(*arguments, folder=self.folder, **self.settings)
        output = result.stdout + result.stderr
        self.shown[" ".join(arguments)] = output
        return output

    async def look(self) -> None:
        """Note what the admin ports and the logs say."""
        async with aiohttp.ClientSession() as http:
            for name, port in (("ingest", self.ingest.admin_port), ("worker", self.worker_admin_port)):
                for page in ("live", "ready", "metrics"):
                    async with http.get(f"http://127.0.0.1:{port}/{page}") as answer:
                        self.shown[f"{name} /{page}"] = await answer.text()
        self.shown["ingest's log"] = self.ingest.process.said
        self.shown["worker's log"] = self.worker.said

    def assert_silent(self) -> None:
        """Neither canary is in anything that was noted, nor a token."""
        assert len(self.shown) > 20
        for name, output in self.shown.items():
            for canary in (NUMBER, SECRET, "eyJ"):  # every token begins with {" in base64
                assert canary not in output, name


@pytest.fixture
async def site(
    valkey_url: str,
    shard: Shard,
    engine: AsyncEngine,  # noqa: ARG001 - it makes the tables
    database_url: str,
    tmp_path: Path,
) -> AsyncIterator[CanarySystem]:
    common = {"redis_url": valkey_url, "stream": shard.name, "signature_secrets": f"{ACCOUNT}:{SECRET}"}
    worker = {"database_url": database_url, "admin_port": str(find_free_port())}
    with ExitStack() as stack:
        async with Ingest(tmp_path, **common, signatures="required").run() as ingest:
            started = stack.enter_context(ackstream("worker", folder=tmp_path, **{**common, **worker}))
            await started.has_logged("consumer.ready", times=2)
            yield CanarySystem(ingest, started, int(worker["admin_port"]), tmp_path, {**common, **worker})


async def test_no_secret_and_no_number_is_seen_anywhere(
    site: CanarySystem, server: Redis, shard: Shard, engine: AsyncEngine
) -> None:
    """Good, unsigned, forged, misdirected, unparsable, and refused by the database with a text that quotes the row."""
    good, bad = body(**PLAIN), orjson.dumps({"note": f"call {NUMBER}", "text": NUMBER})
    signed = ("Authorization", bearer(good, secret=SECRET))
    assert await site.post("good", good, signed, path=f"?to={NUMBER}") == 200
    assert await site.post("unsigned", good) == 503
    assert await site.post("forged", good, ("Authorization", bearer(good, secret=f"{SECRET}x"))) == 503
    assert await site.post("misdirected", good, signed, path=f"/{NUMBER}") == 404
    assert await site.post("unparsable", bad, ("Authorization", bearer(bad, secret=SECRET))) == 200
    await becomes(lambda: len(site.worker.read_log("entries.dead_lettered")) == 2)
    await forbid(engine)
    late = body(message_uuid="m-late", **PLAIN)
    assert await site.post("late", late, ("Authorization", bearer(late, secret=SECRET))) == 200
    await becomes(lambda: site.worker.read_log("handler.failed"))
    await until(lambda: is_in(server, shard.quarantine))
    for arguments in (
        ("trace", "m-1"),
        ("stats",),
        ("dead-letters", "list"),
        ("quarantine", "list"),
        ("stats", "--json"),
    ):
        site.run(*arguments)
    for group in ("dead-letters", "quarantine"):
        listed = orjson.loads(site.run(group, "list", "--json"))
        (first, *_) = next(iter(listed.values()))
        site.run(group, "show", first["id"])
        site.run(group, "show", first["id"], "--json")
    site.run("trace", "m-1", "--json")
    await site.look()
    site.assert_silent()


async def forbid(engine: AsyncEngine) -> None:
    """From now on the database refuses every message, in words that hold its columns."""
    insert = {
        "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN NEW.message_uuid = 'm-late' "
        "BEGIN SELECT RAISE(ABORT, 'refused 447700900987'); END",
        "postgresql": "ALTER TABLE messages ADD CONSTRAINT refuse CHECK (message_uuid <> 'm-late')",
    }
    async with engine.begin() as connection:
        await connection.execute(text(insert[engine.dialect.name]))


async def is_in(server: Redis, stream: str) -> bool:
    return await server.xlen(stream) > 0
