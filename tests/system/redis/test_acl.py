"""The example users for Redis in deploy/redis-users.acl: each can do its work, and nothing else."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis  # noqa: TC002 - tests keep one habit
from redis.exceptions import NoPermissionError

from console.up import valkey
from stream.keys import Shard
from stream.redis.client import client
from tests.support.processes import Ingest, Process, Server, ackstream, becomes, run_ackstream
from tests.support.samples.events import body, entry
from tests.support.samples.signed import SECRETS, bearer
from tests.support.servers.redis_users import ACL_FILE
from tests.support.waiting import until
from worker.store.migrate import migrate_at

HANDLERS = ("store", "log", "failing:handle#attempts=2&base=0")
FAILING = """from worker import StatusEvent
async def handle(event: StatusEvent):
    assert event.message_uuid != "m-1"
"""
REPLAYS = (
    ("dead-letters", "replay", "--group", "failing:handle", "--all", "--rate", "1000"),
    ("replay", "plan", "--message", "m-2999"),
    ("replay", "run", "--group", "store", "--message", "m-2999"),
    ("replay", "list"),
)
COMMANDS = (
    ("stats",),
    ("dead-letters", "discard", "--all"),
    ("quarantine", "list"),
    ("invalid", "list"),
    ("invalid", "replay", "--all"),
    ("invalid", "discard", "--all", "--yes"),
    ("groups", "list"),
    ("groups", "resume", "store"),
    ("erase", "--number", "447700900001", "--yes"),
    ("groups", "drop", "store", "--yes", "--dead"),
)
OWNER = "user owner on >owner ~* &* +@all\n"


class Guarded(Server):
    """A Valkey with the example users, and one more for the test itself."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.port = valkey.find_free_port()
        (folder / "users.acl").write_text(re.sub(r"<(\w+)-password>", r"\1", ACL_FILE) + OWNER)
        options = ("--port", str(self.port), "--aclfile", str(folder / "users.acl"), "--dir", str(folder))
        super().__init__((valkey.find_binary(), *options, "--appendonly", "yes", "--appendfsync", "always"), folder)

    def url(self, user: str) -> str:
        return f"redis://{user}:{user}@127.0.0.1:{self.port}"

    async def _is_ready(self, process: Process) -> None:
        await becomes(lambda: process.lives() and "Ready to accept connections" in process.said)


@dataclass(frozen=True, slots=True)
class GuardedSystem:
    """The server, and the settings of those who use it."""

    server: Guarded
    folder: Path
    settings: dict[str, str]

    def run(self, *arguments: str) -> int:
        """Run a command as the user ``console``; its exit code."""
        settings = {**self.settings, "redis_url": self.server.url("console")}
        return run_ackstream(*arguments, folder=self.folder, **settings).returncode


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[GuardedSystem]:
    database_url = f"sqlite:///{tmp_path / 'test.db'}"
    await migrate_at(database_url)
    settings = {"database_url": database_url, "signature_secrets": SECRETS, "retention_bytes": str(2**20)}
    async with Guarded(tmp_path / "valkey").run() as server:
        yield GuardedSystem(server, tmp_path, settings)


async def test_each_role_does_its_work_as_its_user(site: GuardedSystem) -> None:
    """Webhooks are kept, refused ones quarantined, stored, tried again, buried and trimmed; every command answers."""
    (site.folder / "failing.py").write_text(FAILING)
    shard, owner = Shard(), client(site.server.url("owner"))
    ingest = Ingest(
        site.folder, **site.settings, signatures="required", redis_url=site.server.url("ingest"), ack="fsync"
    )
    redis_url = site.server.url("worker")
    async with ingest.run():
        settings = {**site.settings, "redis_url": redis_url, "handlers": ",".join(HANDLERS), "order": "message"}
        with ackstream("worker", folder=site.folder, **settings) as worker:
            for payload, secret, status in ((body(), "", 200), (b"no status", "", 200), (body(), "forged", 503)):
                headers = {"Authorization": bearer(payload, **({"secret": secret} if secret else {}))}
                async with (
                    aiohttp.ClientSession() as http,
                    http.post(ingest.url, data=payload, headers=headers) as answer,
                ):
                    assert answer.status == status

            junk: Any = entry(b"junk", signature="wrong").to_fields()
            await owner.xadd(shard.stream, junk)
            valid: Any = {**entry(body(), signature="wrong").to_fields(), b"origin": b"0/1-1", b"error": b"of old"}
            await owner.xadd(shard.invalid, valid)
            async with owner.pipeline(transaction=False) as pipe:
                for number in range(3000):  # more than it may hold
                    fields: Any = entry(body(message_uuid=f"m-{number}", text="x" * 500)).to_fields()
                    pipe.xadd(shard.stream, fields)
                await pipe.execute()

            async def is_done() -> bool:
                good: Any = entry(body(message_uuid=f"good-{time.time()}")).to_fields()
                await owner.xadd(shard.stream, good)
                await asyncio.sleep(0.2)
                dead = [await owner.xlen(shard.dead(group.partition("#")[0])) for group in HANDLERS]
                lengths = await owner.xlen(shard.quarantine), await owner.xlen(shard.stream)
                return (dead, lengths[0], lengths[1] < 3000) == ([1, 1, 3], 1, True)

            await until(is_done, seconds=60)
            assert await owner.xlen(shard.invalid) == 2
            for command in REPLAYS:
                assert site.run(*command) == 0, command
            await until(is_done, seconds=60)
            assert [line["done"] for line in worker.read_log("replay.done")] == [3, 1]
            assert not [line for line in worker.said.splitlines() if "NOPERM" in line or "upkeep_failed" in line]
        assert not [line for line in ingest.process.said.splitlines() if "NOPERM" in line]
    for arguments in COMMANDS:
        assert site.run(*arguments) == 0, arguments
    assert site.run("quarantine", "accept", "--all", "--unverified") == 0
    await owner.aclose()


REFUSED = (
    ("XRANGE", "vonage:status:{0}", "-", "+"),
    ("XREAD", "STREAMS", "vonage:status:{0}", "0"),
    ("XLEN", "vonage:status:{0}"),
    ("XDEL", "vonage:status:{0}", "1-1"),
    ("XTRIM", "vonage:status:{0}", "MAXLEN", "0"),
    ("XGROUP", "DESTROY", "vonage:status:{0}", "store"),
    ("DEL", "vonage:status:{0}"),
    ("XADD", "another", "*", "a", "b"),
    ("XADD", "vonage:status:{0}:dead:store", "*", "a", "b"),
    ("GET", "vonage:status:{0}:checkpoint:store"),
    ("SET", "vonage:status:{0}:server", "another"),
    ("EVAL", "return 1", "0"),
    ("KEYS", "*"),
    ("FLUSHALL",),
    ("CONFIG", "SET", "appendonly", "no"),
    ("ACL", "LIST"),
    ("SHUTDOWN",),
)


async def test_ingest_can_append_and_ask_and_nothing_else(site: GuardedSystem) -> None:
    """An attacker who controls the ingest process can neither read nor remove stored entries."""
    server: Redis = client(site.server.url("ingest"))
    do: Any = server.execute_command
    for command in REFUSED:
        with pytest.raises(NoPermissionError):
            await do(*command)
    await server.aclose()


async def test_without_a_user_there_is_nothing(site: GuardedSystem) -> None:
    """The default user is off."""
    server: Redis = client(f"redis://127.0.0.1:{site.server.port}")
    with pytest.raises(Exception, match=r"(?i)authentication required|NOAUTH"):
        await server.ping()
    await server.aclose()
