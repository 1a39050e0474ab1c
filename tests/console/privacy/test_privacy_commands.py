"""`ackstream erase` and `export` as an operator runs them."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from console.privacy.eraser import open_eraser
from console.privacy.selection import Subject
from console.privacy.settings import PrivacySettings
from ingest.encoding import pack
from ingest.spool.folder import Owner
from stream.keys import Shard
from tests.support.commands import CommandResult, run_command
from tests.support.persons.dump import dump_redis
from tests.support.samples.events import body, entry, event
from tests.support.samples.spool_folders import open_files
from tests.support.streams.stored_messages import store_events
from worker.group.group_ref import GroupRef
from worker.replay.entry_filter import EntryFilter
from worker.replay.job import Place, Replay
from worker.replay.repository import Replays
from worker.store.migrate import migrate_at

NUMBER = "447700900001"
OTHER = body(message_uuid="m-2", to="447700900002", client_ref="r-2")
THEIRS = (body(to=NUMBER, client_ref="r-1", status="submitted"), body(client_ref="r-1"))


@pytest.fixture
async def places(server: Redis, valkey_url: str, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the data folder of a stream and tables with two webhooks of a person and one of another."""
    monkeypatch.setenv("ACKSTREAM_STREAM", shard.name)
    monkeypatch.setenv("ACKSTREAM_REDIS_URL", valkey_url)
    data = tmp_path / "ackstream-data"
    data.mkdir()
    url = f"sqlite:///{data / 'ackstream.db'}"
    await migrate_at(url)
    events = []
    for payload in (*THEIRS, OTHER):
        fields: Any = entry(payload).to_fields()
        entry_id: Any = await server.xadd(shard.stream, fields)
        events.append(event(payload, at=f"0/{entry_id.decode()}"))
    await store_events(url, events)
    return data


async def run(*arguments: str, answer: str = "") -> CommandResult:
    """Run a command in a thread, because it has an event loop of its own."""
    return await asyncio.to_thread(run_command, *arguments, answer=answer)


async def count(server: Redis, shard: Shard) -> int:
    return await server.xlen(shard.stream)


@pytest.mark.usefixtures("places")
async def test_erase_shows_what_it_found_and_asks(server: Redis, shard: Shard) -> None:
    """Without a yes nothing is erased; with a yes the answer has each place."""
    refused = await run("erase", "--number", f"+{NUMBER}", answer="n\n")
    assert "2 in stream, 1 in messages, 2 in status_events" in refused.stderr
    assert ("nothing is done" in refused.error, await count(server, shard)) == (True, 3)

    erased = await run("erase", "--number", f"+{NUMBER}", answer="y\n")

    rows = [line.split() for line in erased.stdout.splitlines()[2:]]
    assert rows == [["stream", "2", "2"], ["messages", "1", "1"], ["status_events", "2", "2"]]
    assert await count(server, shard) == 1
    assert NUMBER not in erased.stderr + erased.stdout
    assert "nothing is stored" in (await run("erase", "--number", NUMBER)).stdout


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize("subject", [("--message", "m-1"), ("--client-ref", "r-1")])
async def test_a_message_or_a_reference_is_erased(server: Redis, shard: Shard, subject: tuple[str, str]) -> None:
    """All webhooks of the message go, and those of others stay."""
    result = (await run("erase", *subject, "--yes", "--json")).json

    assert (result["found"], result["unreachable"]) == (result["erased"], [])
    assert {name: number for name, number in result["found"].items() if number} == {
        "stream": 2,
        "messages": 1,
        "status_events": 2,
    }
    assert await count(server, shard) == 1


@pytest.mark.usefixtures("places")
async def test_export_prints_everything_and_changes_nothing(server: Redis, shard: Shard) -> None:
    """Each line has a place and a whole record, also of a webhook without the number; there is nothing about others."""
    before = await dump_redis(server, shard.name)

    result = await run("export", "--number", NUMBER)

    lines = [orjson.loads(line) for line in result.stdout.splitlines()]
    assert [line["place"] for line in lines] == ["stream", "stream", "messages", "status_events", "status_events"]
    assert [line["fields"]["payload"].encode() for line in lines[:2]] == list(THEIRS)
    assert lines[2]["fields"]["to"] == NUMBER
    assert {line["message_uuid"] for line in lines[2:]} == {"m-1"}
    assert (result.code, "m-2" in result.stdout, await dump_redis(server, shard.name)) == (0, False, before)


async def test_a_webhook_that_comes_after_the_look_is_erased_from_all_places(
    places: Path, server: Redis, shard: Shard, valkey_url: str
) -> None:
    """While the operator answers the question, ingest and workers store more of the person."""
    settings = PrivacySettings.load(data=places, redis_url=valkey_url)
    async with open_eraser(settings, lambda _text: None) as eraser:
        selection = await eraser.look(Subject(frozenset((NUMBER,))))
        payload = body(message_uuid="m-3", to=NUMBER)
        fields: Any = entry(payload).to_fields()
        entry_id: Any = await server.xadd(shard.stream, fields)
        await store_events(settings.database_url, [event(payload, at=f"0/{entry_id.decode()}")])

        erasure = await eraser.erase(selection)

    assert {name: erasure.erased[name] for name in ("stream", "messages", "status_events")} == {
        "stream": 3,
        "messages": 2,
        "status_events": 3,
    }


async def test_the_spool_of_a_running_ingest_is_reported(places: Path) -> None:
    """`erase` exits with 1 and names the folder and the next step; `export` has the entries."""
    files = open_files(places, owner=Owner("any", "any"))
    files.put([pack(entry(THEIRS[0]))])

    result = await run("erase", "--number", NUMBER, "--yes", "--json")
    exported = await run("export", "--number", NUMBER)

    answer = orjson.loads(result.stdout)
    assert (result.code, answer["found"]["spool"], answer["erased"]["spool"]) == (1, 1, 0)
    assert "a running ingest has 1 entries" in answer["unreachable"][0]
    assert [orjson.loads(line)["place"] for line in exported.stdout.splitlines()] == ["spool"]
    files.close()
    assert (await run("erase", "--number", NUMBER, "--yes", "--json")).json["erased"]["spool"] == 1


async def test_the_spool_of_a_running_ingest_without_the_person_is_no_reason_to_fail(places: Path) -> None:
    """A copy of the file shows that it has nothing of the person."""
    files = open_files(places, owner=Owner("any", "any"))
    files.put([pack(entry(OTHER))])

    assert (await run("erase", "--number", NUMBER, "--yes", "--json")).json["unreachable"] == []

    files.close()


async def test_what_stays_is_named(places: Path, server: Redis, shard: Shard) -> None:
    """A replay that runs, a key of a later version and a damaged file stay, each with a next step."""
    replay = Replay(
        id="abc", group="g", place=Place.STREAM, selection=EntryFilter(messages=("m-1",)), rate=1.0, begin="0-0",
        end="0-0", total=1, started_ms=1,
    )  # fmt: skip
    await server.sadd(shard.groups, "g")
    await Replays(GroupRef(server, shard, "g")).start(replay)
    await server.set(f"{shard.stream}:later", "x")
    damaged = places / "spool" / "0" / "000001.damaged"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"x")

    result = await run("erase", "--message", "m-1", "--yes", "--json")

    reasons = orjson.loads(result.stdout)["unreachable"]
    assert result.code == 1
    assert [any(sign in reason for reason in reasons) for sign in ("replay abc", ":later", "000001.damaged")] == [
        True
    ] * 3


@pytest.mark.parametrize(
    ("arguments", "sign"),
    [((), "--number"), (("--number", "4x"), "country code"), (("--number", "12"), "country code")],
)
async def test_an_operator_is_told_how_to_write_it(arguments: tuple[str, ...], sign: str) -> None:
    """A missing or wrong subject is an error with the next step, and no place is opened."""
    assert sign in (await run("erase", *arguments)).error
