"""``ackstream invalid`` counts, shows, replays and discards recorded payloads."""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner, Result

from console.main import make_app
from runtime.errors import CommandError
from stream.keys import Shard
from tests.support.samples.events import body, entry
from worker.settle.invalid import InvalidRecord, UnverifiedPayload

NUMBER = "447700900123"
JUNK = b'{"text":"hello","to":"%b"}' % NUMBER.encode()


@dataclass(frozen=True, slots=True)
class InvalidCommands:
    """A stream with a group, its record of invalid payloads, and the commands on it."""

    server: Redis
    shard: Shard
    settings: dict[str, str]

    async def record(self, *payloads: bytes) -> None:
        """Record these payloads as invalid."""
        for payload in payloads:
            fields: Any = entry(payload, signature="wrong", query=b"ref=7").to_fields()
            entry_id: Any = await self.server.xadd(self.shard.stream, fields)
            await self.server.xreadgroup("g", "c", {self.shard.stream: ">"})
            origin = f"0/{entry_id.decode()}"
            invalid = UnverifiedPayload.from_entry(
                entry_id, fields, origin=origin, error=f"invalid-status: no id for {NUMBER}"
            )
            await InvalidRecord(self.server, self.shard).record(self.shard.stream, "g", [invalid], are_copies=False)

    async def run(self, *arguments: str, answer: str | None = None) -> Result:
        """Run one command, with this input from the user."""
        environment = {f"ACKSTREAM_{name.upper()}": value for name, value in self.settings.items()}
        return await asyncio.to_thread(
            CliRunner().invoke, make_app(["invalid"]), ["invalid", *arguments], env=environment, input=answer
        )

    async def json(self, *arguments: str) -> Any:
        """Run one command with --json; return the printed value."""
        return orjson.loads((await self.run(*arguments, "--json")).stdout)

    async def ids(self) -> list[str]:
        """Return the ids that `list` shows, oldest first."""
        return [row["id"] for row in reversed((await self.json("list"))["invalid"])]


@pytest.fixture
async def site(valkey_url: str, server: Redis, shard: Shard) -> InvalidCommands:
    await server.xgroup_create(shard.stream, "g", "0", mkstream=True)
    return InvalidCommands(server, shard, {"redis_url": valkey_url, "stream": shard.name})


async def test_a_list_has_no_payload(site: InvalidCommands) -> None:
    """`list` shows the newest first, with the entry, why it is invalid, and the result of the signature check."""
    await site.record(JUNK, b"second")

    listing = await site.json("list", "--limit", "1")
    table = await site.run("list")

    (newest,) = listing["invalid"]
    assert (listing["entries"], listing["recorded"], listing["dropped"]) == (2, 2, 0)
    assert (newest["bytes"], newest["signature"], newest["entry"][:2]) == (6, "wrong", "0/")
    assert newest["error"] == "no id for ********0123"
    assert newest["id"] in table.stdout
    assert NUMBER not in table.stdout
    assert "hello" not in table.stdout


async def test_a_list_of_an_empty_record_creates_no_key(site: InvalidCommands) -> None:
    """`list` prints that the record is empty, and creates nothing."""
    outcome = await site.run("list")

    assert (outcome.exit_code, outcome.stdout) == (0, "no invalid payloads are recorded\n")
    assert await site.server.keys(f"{site.shard.invalid}*") == []


async def test_the_payload_and_the_query_are_shown_only_when_revealed(site: InvalidCommands) -> None:
    """Without --reveal, neither the table nor the JSON of `show` has payload or query."""
    await site.record(JUNK)
    (record_id,) = await site.ids()

    hidden = await site.run("show", record_id)
    revealed = await site.json("show", record_id, "--reveal")

    assert hidden.exit_code == 0
    assert not [secret for secret in (NUMBER, "hello", "ref=7") if secret in hidden.stdout]
    assert "payload" not in await site.json("show", record_id)
    assert (revealed["payload"], revealed["query"]) == (JUNK.decode(), "ref=7")


async def test_a_replay_appends_what_is_valid_now_and_leaves_the_rest(site: InvalidCommands) -> None:
    """A replay of a named payload that is still invalid exits with 1."""
    await site.record(JUNK, body(message_uuid="m-7"))
    junk, valid = await site.ids()
    length = await site.server.xlen(site.shard.stream)

    assert await site.json("replay", "--all") == {"replayed": 1, "left": 1}
    assert await site.server.xlen(site.shard.stream) == length + 1
    assert await site.ids() == [junk]
    again = await site.run("replay", junk)

    assert (again.exit_code, again.stdout) == (
        1,
        "0 payloads are replayed to all groups; 1 are still invalid and stay recorded\n",
    )
    assert valid != junk


async def test_discard_asks_first(site: InvalidCommands) -> None:
    """`discard` drops payloads only after the answer yes, or with --yes."""
    await site.record(JUNK, b"second", b"third")
    first, *_ = await site.ids()

    refused = await site.run("discard", "--all", answer="n\n")
    discarded = await site.run("discard", first, answer="y\n")

    assert (refused.exit_code, len(await site.ids())) == (1, 2)
    assert discarded.stdout.endswith("1 invalid payloads are discarded\n")
    assert await site.json("discard", "--all", "--yes") == {"discarded": 2}
    assert await site.ids() == []


@pytest.mark.parametrize("act", ["replay", "discard"])
async def test_ids_or_all_are_required(site: InvalidCommands, act: str) -> None:
    """A command needs ids or --all, not both; the error names an id without a record."""
    for arguments in ((), ("0/1-1", "--all")):
        refused = await site.run(act, *arguments)
        assert isinstance(refused.exception, CommandError)
        assert "or --all" in str(refused.exception)
    for arguments in ((act, "0/1-1"), ("show", "0/1-1")):
        refused = await site.run(*arguments)
        assert str(refused.exception) == "no invalid payload 0/1-1; `ackstream invalid list` shows all"
    assert "not an entry" in str((await site.run(act, "nonsense")).exception)


async def test_stats_count_recorded_payloads(site: InvalidCommands) -> None:
    """`stats` prints a line for people, and the counts with --json."""
    await site.record(JUNK)
    environment = {f"ACKSTREAM_{name.upper()}": value for name, value in site.settings.items()}
    people = await asyncio.to_thread(CliRunner().invoke, make_app(["stats"]), ["stats"], env=environment)
    programs = await asyncio.to_thread(CliRunner().invoke, make_app(["stats"]), ["stats", "--json"], env=environment)

    assert "1 invalid payloads are recorded" in people.stdout
    assert orjson.loads(programs.stdout)["shards"][0]["invalid"]["entries"] == 1
