"""Commands about a message, a person, and the invalid payloads of a stream with three shards."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from console.queries.shards import set_shards
from stream.keys import Shard
from stream.payload import choose_shard
from stream.settings import StreamSettings
from tests.support.commands import CommandResult, run_command
from tests.support.databases import make_sqlite
from tests.support.persons.dump import dump_redis
from tests.support.samples.events import RECEIVED_MS, body, entry, event
from tests.support.samples.tokens import ACCOUNT, SECRET
from tests.support.streams.causes import add_invalid, add_refused
from tests.support.streams.retention import group, register, trim_once
from tests.support.streams.stored_messages import store_events
from worker.retention.archive_writer import Archive
from worker.retention.policy import RetentionPolicy

STATUSES = ("submitted", "delivered", "read")


async def run(*arguments: str) -> CommandResult:
    """Run a command in a thread, because it has an event loop of its own."""
    return await asyncio.to_thread(run_command, *arguments)


@pytest.fixture
async def shards(
    server: Redis, valkey_url: str, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Shard]:
    """Three shards with one status of a message each, which a group has settled, and an invalid payload."""
    monkeypatch.setenv("ACKSTREAM_STREAM", shard.name)
    monkeypatch.setenv("ACKSTREAM_REDIS_URL", valkey_url)
    monkeypatch.setenv("ACKSTREAM_DATA", str(tmp_path))
    url = make_sqlite(tmp_path / "ackstream.db")
    await set_shards(server, StreamSettings(stream=shard.name), 3)
    shards, events = [Shard(shard.name, number) for number in range(3)], []
    for each, status in zip(shards, STATUSES, strict=True):
        payload, received_ms = body(message_uuid="m-1", status=status), RECEIVED_MS + each.number
        fields: Any = entry(payload, received_ms).to_fields()
        entry_id: Any = await server.xadd(each.stream, fields)
        events.append(event(payload, received_ms, f"{each.number}/{entry_id.decode()}"))
        await group(server, each, "g", read=1)
        await register(server, each, "g")
        await add_invalid(server, each, b"junk", error="no status")
    await store_events(url, events)
    return shards


async def test_commands_find_the_entries_of_each_shard(server: Redis, shards: list[Shard]) -> None:
    """`trace`, `export` and `invalid` have what is on each shard, in order, and change nothing."""
    before = await dump_redis(server, shards[0].name)

    trace = (await run("trace", "m-1", "--json")).json
    exported = [orjson.loads(line) for line in (await run("export", "--message", "m-1")).stdout.splitlines()]
    invalid = (await run("invalid", "list", "--json")).json
    lists = [await run(*words, "--json") for words in (("stats",), ("shards", "list"), ("dead-letters", "list"))]

    webhooks = trace["timeline"]["webhooks"]
    assert [(webhook["entry"][:2], webhook["status"]) for webhook in webhooks] == [
        ("0/", "submitted"),
        ("1/", "delivered"),
        ("2/", "read"),
    ]
    assert [group["state"] for webhook in webhooks for group in webhook["groups"]] == ["settled"] * 3
    assert [line["place"] for line in exported].count("stream") == len(shards)
    assert (invalid["entries"], [row["id"][:2] for row in invalid["invalid"]]) == (3, ["2/", "1/", "0/"])
    assert [result.code for result in lists] == [0, 0, 0]
    assert await dump_redis(server, shards[0].name) == before

    assert (await run("invalid", "discard", invalid["invalid"][0]["id"], "--yes", "--json")).json == {"discarded": 1}
    assert [await server.xlen(each.invalid) for each in shards] == [1, 1, 0]


async def test_a_replay_that_starts_on_some_shards_only_says_how_to_end_it(server: Redis, shards: list[Shard]) -> None:
    """If Redis fails between two parts, the error names the parts that have started, and the command that ends them."""
    await server.set(shards[1].replays("g"), "junk")

    result = await run("replay", "run", "--group", "g", "--detach")

    assert result.code == 1
    await server.delete(shards[1].replays("g"))
    [listed] = (await run("replay", "list", "--json")).json["replays"]
    assert f"replay {listed['replay']} has started on shard 0 only (WRONGTYPE" in result.stderr
    assert f"`ackstream replay cancel {listed['replay']}`" in result.stderr


@pytest.mark.parametrize("act", ["discard", "replay"])
async def test_an_act_that_fails_in_the_middle_can_be_repeated(server: Redis, shards: list[Shard], act: str) -> None:
    """The error says that a part may be done and the next step; the second run does the rest."""
    for each in shards:
        await add_invalid(server, each, body(message_uuid=f"late-{each.number}"), error="no status")
    await server.rename(shards[1].invalid, f"{shards[1].name}-kept")
    await server.set(shards[1].invalid, "junk")
    command = ("invalid", act, "--all", *(["--yes"] if act == "discard" else []))

    failed = await run(*command)
    await server.rename(f"{shards[1].name}-kept", shards[1].invalid)
    repeated = await run(*command, "--json")

    assert failed.code == 1
    assert "A part of the work may be done: list what is left, and run the command again" in failed.stderr
    assert (repeated.code, repeated.json) == (0, {"discarded": 4} if act == "discard" else {"replayed": 2, "left": 3})


@pytest.fixture
async def refused(server: Redis, shards: list[Shard], monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Quarantined payloads of several messages, which the present secret verifies."""
    monkeypatch.setenv("ACKSTREAM_SIGNATURES", "required")
    monkeypatch.setenv("ACKSTREAM_SIGNATURE_SECRETS", f"{ACCOUNT}:{SECRET.decode()}")
    payloads = [body(message_uuid=f"late-{number}") for number in range(12)]
    for payload in payloads:
        await add_refused(server, shards[0], payload)
    return payloads


async def read_payloads(server: Redis, shards: list[Shard]) -> list[set[bytes]]:
    """Return the payloads on each shard."""
    entries: list[Any] = [await server.xrange(each.stream) for each in shards]
    return [{fields[b"payload"] for _, fields in of_shard} for of_shard in entries]


async def test_accepted_payloads_go_to_the_shards_of_their_messages(
    server: Redis, shards: list[Shard], refused: list[bytes]
) -> None:
    """So they wait for the other events of their message in order mode. The quarantine is then empty."""
    result = await run("quarantine", "accept", "--all", "--json")

    assert (result.code, len(result.json["accepted"]), result.json["left"]) == (0, len(refused), [])
    on_shards = await read_payloads(server, shards)
    places = {payload: [number for number, there in enumerate(on_shards) if payload in there] for payload in refused}
    assert places == {payload: [choose_shard(payload, len(shards))] for payload in refused}
    assert {number for (number,) in places.values()} == {0, 1, 2}
    assert await server.xlen(shards[0].quarantine) == 0


async def test_a_payload_stays_in_the_quarantine_until_its_shard_has_it(
    server: Redis, shards: list[Shard], refused: list[bytes]
) -> None:
    """If a shard refuses it, the command says that a part may be done, and the second run accepts the rest, once."""
    await server.rename(shards[1].stream, f"{shards[1].name}-kept")
    await server.set(shards[1].stream, "junk")

    failed = await run("quarantine", "accept", "--all")
    left = await server.xlen(shards[0].quarantine)
    await server.rename(f"{shards[1].name}-kept", shards[1].stream)
    repeated = await run("quarantine", "accept", "--all", "--json")

    assert (failed.code, 0 < left < len(refused)) == (1, True)
    assert "A part of the work may be done: list what is left, and run the command again" in failed.stderr
    assert len(repeated.json["accepted"]) == left
    entries: list[Any] = [await server.xrange(each.stream) for each in shards]
    payloads = [fields[b"payload"] for of_shard in entries for _, fields in of_shard]
    assert sorted(payload for payload in payloads if payload in refused) == sorted(refused)


async def test_commands_that_read_write_no_layout(
    server: Redis, valkey_url: str, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first start of ingest or a worker they show one shard, and create no key."""
    monkeypatch.setenv("ACKSTREAM_STREAM", shard.name)
    monkeypatch.setenv("ACKSTREAM_REDIS_URL", valkey_url)
    results = [(await run(*words, "--json")).json for words in (("shards", "list"), ("stats",), ("groups", "list"))]

    assert [len(result["shards"]) for result in results[:2]] == [1, 1]
    assert [key async for key in server.scan_iter(match=f"{shard.name}*")] == []


async def test_the_archive_of_each_shard_is_found_and_erased(
    valkey_url: str, shards: list[Shard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shard has its own file at once; `export` and `replay plan` read all of them, and `erase` cleans each."""
    archive = Archive(tmp_path / "archive")
    monkeypatch.setenv("ACKSTREAM_ARCHIVE", str(archive.folder))
    archive.prepare()
    for each in shards:
        await trim_once(valkey_url, each, RetentionPolicy(1, 1024**3, together=False), archive)

    exported = [orjson.loads(line) for line in (await run("export", "--message", "m-1")).stdout.splitlines()]
    plan = (await run("replay", "plan", "--archive", "--json")).json
    erased = (await run("erase", "--message", "m-1", "--yes", "--json")).json

    assert [line["entry"][:2] for line in exported if line["place"] == "archive"] == ["0/", "1/", "2/"]
    assert plan["entries"] == 3
    assert (erased["found"]["archive"], erased["erased"]["archive"], erased["unreachable"]) == (3, 3, [])
    assert (await run("export", "--message", "m-1")).stdout == ""


@pytest.mark.usefixtures("shards")
async def test_an_archive_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume may not be mounted. `replay plan` counts nothing; `erase` and `export` do the rest and exit with 1."""
    monkeypatch.setenv("ACKSTREAM_ARCHIVE", str(tmp_path / "archive"))
    reason = f"the folder {tmp_path / 'archive'} does not exist here: mount it, or correct ACKSTREAM_ARCHIVE"

    plan = await run("replay", "plan", "--archive")
    exported = await run("export", "--message", "m-1")
    erased = await run("erase", "--message", "m-1", "--yes", "--json")

    assert (plan.code, plan.stdout) == (1, "")
    assert f"the archive cannot be used: {reason}" in plan.stderr
    assert (exported.code, erased.code) == (1, 1)
    assert reason in exported.stderr
    erasure = orjson.loads(erased.stdout)
    assert (erasure["unreachable"], erasure["erased"]["stream"]) == ([reason], 3)
