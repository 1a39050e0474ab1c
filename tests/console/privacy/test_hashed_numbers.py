"""Tables with hashes instead of phone numbers, on both databases."""

import asyncio
from pathlib import Path

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.statuses.search import MessageFilter, find_messages
from console.web.settings import ConsoleSettings
from stream.keys import Shard
from stream.settings import InvalidSettings
from tests.support.commands import CommandResult, run_command
from tests.support.persons.dump import dump_tables
from tests.support.samples.events import body, event
from tests.support.workers.store_rows import clear_tables, read_rows
from worker.events.event import StatusEvent
from worker.events.number_hash import NumberHash
from worker.settings import WorkerSettings
from worker.store.handler import Store
from worker.store.settings import DatabaseSettings

KEY = "a key of at least thirty-two characters"
NUMBER_HASH = NumberHash(KEY)
NUMBER, SENDER, OTHER, THIRD = "447700900123", "447700900001", "447700900456", "447700900789"
RECEIPT = b"msisdn=447700900123&to=447700900001&messageId=0A&status=delivered&err-code=0&note=for+%2B447700900123"


def make_events() -> list[StatusEvent]:
    """Return two statuses and a receipt of one number, and a status of another."""
    parties = {"to": f"+{NUMBER}", "from": SENDER, "timestamp": "2026-01-01T14:00:00Z"}
    failed = {"error": {"title": "1", "detail": f"{NUMBER} is away"}, "timestamp": "2026-01-01T15:00:00Z"}
    payloads = (
        body(**parties, status="submitted"),
        body(**parties | failed, status="undeliverable"),
        RECEIPT,
        body(message_uuid="m-2", to=OTHER),
    )
    return [event(payload, at=f"0/{place}-0") for place, payload in enumerate(payloads, 1)]


async def run(*arguments: str) -> CommandResult:
    """Run a command in a thread: it has an event loop of its own."""
    return await asyncio.to_thread(run_command, *arguments)


async def search(engine: AsyncEngine, text: str) -> list[str]:
    """Return the messages that a search finds."""
    page = await find_messages(engine, MessageFilter(text=text, number_hash=NUMBER_HASH))
    return sorted(row.message_uuid for row in page.messages)


@pytest.mark.parametrize("settings", [DatabaseSettings, ConsoleSettings, WorkerSettings])
def test_an_empty_file_of_the_key_is_an_error(
    settings: type[DatabaseSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process stores whole numbers because its key was not written, as after a full disk."""
    (tmp_path / "key").write_text("\n")
    monkeypatch.setenv("ACKSTREAM_NUMBER_KEY_FILE", str(tmp_path / "key"))

    with pytest.raises(InvalidSettings, match=r"NUMBER_KEY_FILE: .* is empty: write the secret"):
        settings.load()


async def test_no_row_has_a_number_and_states_are_as_before(engine: AsyncEngine) -> None:
    """The tables have hashes in every row, a repeat adds none, and a later event finds the earlier ones."""
    events = make_events()
    hashing = Store(engine, number_hash=NUMBER_HASH)
    await Store(engine).handle(events)
    expected, _ = await read_rows(engine)
    await clear_tables(engine)
    for batch in ([events[1]], [events[0], events[2]], events, [events[3]]):
        await hashing.handle(batch)
    messages, rows = await read_rows(engine)

    dump = "\n".join(await dump_tables(engine))
    assert not [number for number in (NUMBER, SENDER, OTHER, NUMBER[2:], OTHER[2:]) if number in dump]
    assert len(rows) == len(events)
    assert {key: row["status"] for key, row in messages.items()} == {
        key: row["status"] for key, row in expected.items()
    }


@pytest.mark.usefixtures("migrated_url")
async def test_search_and_erase_work_by_the_number(
    engine: AsyncEngine,
    migrated_url: str,
    server: Redis,
    valkey_url: str,
    shard: Shard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the key the number finds its messages, `export` prints them, and `erase` removes them and no others."""
    (tmp_path / "key").write_text(f"{KEY}\n")
    for name, value in (
        ("NUMBER_KEY_FILE", str(tmp_path / "key")),
        ("STREAM", shard.name),
        ("REDIS_URL", valkey_url),
        ("DATABASE_URL", migrated_url),
    ):
        monkeypatch.setenv(f"ACKSTREAM_{name}", value)
    events = make_events()
    reference = f"call +{THIRD}, please"
    referring = [
        event(body(message_uuid=name, to=THIRD, client_ref=text), at=f"0/{place}-0")
        for place, (name, text) in enumerate({"m-3": reference, "m-4": f"00{THIRD}"}.items(), 7)
    ]
    number_hash = DatabaseSettings.load().number_hash
    await Store(engine, number_hash=number_hash).handle([*events, *referring])

    found = [
        await search(engine, text)
        for text in (
            f"+{NUMBER}",
            "+44 (0)7700 900123",
            NUMBER_HASH.hash(NUMBER),
            events[0].event_id,
            SENDER,
            reference,
        )
    ]
    references = (await run("erase", "--client-ref", reference, "--client-ref", THIRD, "--yes", "--json")).json
    exported = await run("export", "--number", NUMBER)
    erased = (await run("erase", "--number", "+44 7700 900123", "--yes", "--json")).json
    again = (await run("erase", "--number", NUMBER, "--yes", "--json")).json
    messages, rows = await read_rows(engine)

    assert found == [["0A", "m-1"], ["0A", "m-1"], ["0A", "m-1"], ["m-1"], [], ["m-3"]]
    assert references["erased"]["messages"] == 2
    assert {orjson.loads(line)["message_uuid"] for line in exported.stdout.splitlines()} == {"0A", "m-1"}
    assert (erased["erased"]["messages"], erased["erased"]["status_events"]) == (2, 3)
    assert sum(again["found"].values()) == 0
    assert (set(messages), len(rows), await server.exists(shard.stream)) == ({"m-2"}, 1, 0)
