"""The number of shards changes while webhooks arrive and workers handle them. `make shards` runs it at length."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from console.queries.shards import list_shards, set_shards
from stream.keys import Shard
from stream.settings import StreamSettings
from tests.support.commands import run_command
from tests.support.databases import make_sqlite
from tests.support.http.load import LOAD_SECONDS, open_load
from tests.support.in_process import run_ingest, run_worker
from tests.support.processes import becomes
from tests.support.samples.events import body, entry
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.support.workers.recording import GROUP, RecordingWorkers, run_recording_workers
from tests.support.workers.store_rows import read_rows
from worker.store.database import open_engine

# Read at import, because a test sees no setting of the machine.
WEBHOOKS = int(os.environ.get("ACKSTREAM_SHARDS_WEBHOOKS", "100"))
BACKLOG = 100


async def test_the_number_of_shards_changes_under_load(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path
) -> None:
    """From 1 to 4 to 2 shards every webhook is stored and handled, none has two rows, and no group is stuck."""
    settings = StreamSettings(redis_url=valkey_url, stream=shard.name)
    common: dict[str, Any] = {"redis_url": valkey_url, "stream": shard.name, "data": tmp_path}
    database_url = make_sqlite(tmp_path / "ackstream.db")
    engine = open_engine(database_url)
    seconds = LOAD_SECONDS + WEBHOOKS / 10

    async def have_new_entries() -> bool:
        return bool(await server.xlen(Shard(shard.name, 3).stream))

    async def are_stored() -> bool:
        await asyncio.sleep(0.1)
        return set(load.accepted_ids) <= (await read_rows(engine))[0].keys() & recording.times("done").keys()

    async def are_drained() -> bool:
        lines = (await list_shards(server, settings)).lines
        return [line.state for line in lines] == ["in use", "in use", "drained", "drained"]

    async def are_settled() -> bool:
        return not any(line.outstanding for line in (await list_shards(server, settings)).lines)

    with run_recording_workers(valkey_url, server, shard, tmp_path) as recording:
        await recording.start()
        async with run_ingest(**common) as ingest, run_worker(**common, handlers="store", database_url=database_url):
            async with open_load(ingest.url, seconds=seconds) as load:
                await load.keeps(WEBHOOKS)
                await set_shards(server, settings, 4)
                await until(have_new_entries)
                await load.keeps(WEBHOOKS)
                await set_shards(server, settings, 2)
                await load.keeps(WEBHOOKS)
            await until(are_stored, seconds=seconds)
            await until(are_settled, seconds=seconds)
            await until(are_drained)
    messages, events = await read_rows(engine)
    await engine.dispose()

    assert len(events) == len(messages)
    assert all([await server.xlen(Shard(shard.name, number).stream) for number in range(4)])


async def add_status(server: Redis, shard: Shard, message_uuid: str) -> str:
    """Append a status of this message to the shard; return the id of its entry."""
    fields: Any = entry(body(message_uuid=message_uuid)).to_fields()
    entry_id: Any = await server.xadd(shard.stream, fields)
    return f"{shard.number}/{entry_id.decode()}"


async def run(*arguments: str) -> Any:
    """Run a command in a thread, because it has an event loop of its own; return its JSON."""
    return (await asyncio.to_thread(run_command, *arguments, "--json")).json


@pytest.fixture
async def site(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RecordingWorkers]:
    """A stream of three shards with a backlog on the first and a few entries on the others, and no worker yet."""
    monkeypatch.setenv("ACKSTREAM_STREAM", shard.name)
    monkeypatch.setenv("ACKSTREAM_REDIS_URL", valkey_url)
    monkeypatch.setenv("ACKSTREAM_DATA", str(tmp_path))
    await set_shards(server, StreamSettings(redis_url=valkey_url, stream=shard.name), 3)
    with run_recording_workers(valkey_url, server, shard, tmp_path) as site:
        await site.append(*(f"slow-0.01-{number}" for number in range(BACKLOG)))
        yield site


async def read_outcomes(server: Redis, shard: Shard) -> dict[bytes, bytes]:
    """Return the outcome of each entry in the history of the group on the shard."""
    entries: Any = await server.xrange(shard.history(GROUP))
    return {fields[b"origin"]: fields[b"outcome"] for _, fields in entries}


async def test_workers_and_commands_serve_all_shards(server: Redis, shard: Shard, site: RecordingWorkers) -> None:
    """A backlog delays no other shard, a repeat on another shard is found, and each command knows all shards."""
    second, third = (Shard(shard.name, number) for number in (1, 2))
    entries = [await add_status(server, second, "discard-1"), await add_status(server, third, "ok-1")]
    await add_status(server, third, "discard-2")

    await site.start("concurrency=1&batch=10")
    await becomes(lambda: site.times("done")["ok-1"] >= 1)
    repeats = [await add_status(server, each, "ok-1") for each in (shard, second)]

    async def are_repeats_found() -> bool:
        outcomes = await read_outcomes(server, shard) | await read_outcomes(server, second)
        return all(outcomes.get(entry_id.encode()) == b"repeated" for entry_id in repeats)

    async def is_idle() -> bool:
        return bool((await run("stats"))["groups"][GROUP]["outstanding"] == 0)

    await until(are_repeats_found)
    await until(is_idle)
    done = [words[0] for words in site.read_notes("done")]
    assert done.index("ok-1") < BACKLOG - 1

    stats = await run("stats")
    assert [line["length"] for line in stats["shards"]] == [BACKLOG + 1, 2, 2]
    [group] = (await run("groups", "list"))["groups"]
    assert (group["dead"], group["unread"]) == (2, 0)
    letters = (await run("dead-letters", "list"))["dead_letters"]
    assert sorted(letter["id"][:2] for letter in letters) == ["1/", "2/"]
    assert (await run("dead-letters", "discard", "--id", letters[0]["id"]))["discarded"] == {GROUP: 1}

    assert (await run("replay", "plan", "--group", GROUP))["entries"] == BACKLOG + 5
    options = ("--group", GROUP, "--detach", *(f"--id={entry_id}" for entry_id in (entries[1], *repeats)))
    started = await run("replay", "run", *options)
    await becomes(lambda: site.times("call")["ok-1"] >= 4)
    [replayed] = (await run("replay", "list"))["replays"]
    assert (replayed["replay"], replayed["done"], started["total"]) == (started["replay"], 3, 3)

    assert [line["state"] for line in (await run("shards", "list"))["shards"]] == ["in use"] * 3
    erased = await run("erase", "--message", "ok-1", "--yes")
    assert erased["found"]["stream"] == erased["erased"]["stream"] == 3
    site.workers[0].send(signal.SIGTERM)
    await site.workers[0].wait_for_end(PATIENCE_SECONDS)
    assert (await run("groups", "drop", GROUP, "--yes", "--dead"))["dropped"] == GROUP
    assert [key async for key in server.scan_iter(match=f"{shard.name}:*:{GROUP}")] == []
