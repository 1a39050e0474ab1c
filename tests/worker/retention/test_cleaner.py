"""Old records are removed from every place that has an age, and no others."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.in_process import run_worker
from tests.support.samples.events import RECEIVED_MS, body, event
from tests.support.waiting import until
from worker.retention.archive_reader import read
from worker.retention.archive_writer import Archive
from worker.retention.cleaner import Cleaner
from worker.retention.old_records import STEP_ENTRIES, open_steps
from worker.retention.settings import AGES
from worker.settings import WorkerSettings
from worker.store.database import open_engine
from worker.store.handler import Store
from worker.store.migrate import migrate_at
from worker.store.tables import messages

OLD = STEP_ENTRIES + 7
NEW = 3
DAY_MS = 86_400_000


async def add(server: Redis, key: str, **fields: bytes) -> None:
    """Append entries to a stream that are two days old, and new ones."""
    seconds, _ = await server.time()
    stored: Any = {name.encode(): value for name, value in fields.items()}
    async with server.pipeline(transaction=False) as pipe:
        for number in range(OLD):
            pipe.xadd(key, stored, id=f"{seconds * 1000 - 2 * DAY_MS}-{number + 1}")
        for _ in range(NEW):
            pipe.xadd(key, stored)
        await pipe.execute()


async def quarantine(server: Redis, shard: Shard) -> None:
    """Fill the quarantine and its index as ingest does; all payloads but NEW are two days old."""
    seconds, _ = await server.time()
    async with server.pipeline(transaction=False) as pipe:
        for number in range(OLD + NEW):
            fields: Any = {b"payload": b"x", b"fingerprint": b"f%d" % number}
            age_ms = 2 * DAY_MS if number < OLD else 0
            pipe.xadd(shard.quarantine, fields, id=f"{seconds * 1000 - age_ms}-{number + 1}")
            pipe.hset(shard.quarantine_index, f"f{number}", "signed")
        pipe.hset(shard.quarantine_index, "entries of signed", str(OLD + NEW))
        await pipe.execute()


def load(tmp_path: Path, shard: Shard, url: str, ages: dict[str, str]) -> WorkerSettings:
    """Return the settings of a worker with these ages."""
    archive, database_url = tmp_path / "archive", f"sqlite:///{tmp_path / 'test.db'}"
    named = {f"{kind}_retention": age for kind, age in ages.items()}
    return WorkerSettings.load(
        redis_url=url, stream=shard.name, archive=archive, database_url=database_url, handlers="store", **named
    )


async def fill(server: Redis, shard: Shard, settings: WorkerSettings) -> None:
    """Put old and new records into each place."""
    await server.sadd(shard.groups, "store")
    for key in (shard.dead("store"), shard.history("store"), shard.invalid):
        await add(server, key, payload=b"x" * 10)
    await server.hset(shard.invalid_totals, "bytes", str((OLD + NEW) * 17))
    await quarantine(server, shard)
    archive = Archive(tmp_path_of(settings))
    archive.prepare()
    now_ms = round(datetime.now(UTC).timestamp() * 1000)
    for first_ms in (now_ms - 2 * DAY_MS, now_ms):
        with archive.draft(shard) as draft:
            draft.add([(b"%d-0" % first_ms, [b"payload", b"x"])])
            draft.finish()
    await migrate_at(settings.database_url)
    times = [datetime.now(UTC) - timedelta(days=days) for days in (2, 0)]
    events = [
        event(body(message_uuid=f"m-{n}", timestamp=time.isoformat()), RECEIVED_MS) for n, time in enumerate(times)
    ]
    engine = open_engine(settings.database_url)
    await Store(engine).handle(events)
    await engine.dispose()


def tmp_path_of(settings: WorkerSettings) -> Path:
    assert settings.archive is not None
    return settings.archive


async def count(server: Redis, shard: Shard, settings: WorkerSettings) -> dict[str, int]:
    """Return how many records each place has."""
    engine = open_engine(settings.database_url, read_only=True)
    async with engine.connect() as connection:
        tables = len((await connection.execute(messages.select())).all())
    await engine.dispose()
    return {
        "tables": tables,
        "dead_letters": await server.xlen(shard.dead("store")),
        "history": await server.xlen(shard.history("store")),
        "invalid": await server.xlen(shard.invalid),
        "quarantine": await server.xlen(shard.quarantine),
        "archive": len(list(read(tmp_path_of(settings), shard.stream))),
    }


async def test_each_kind_is_cleaned_in_steps(server: Redis, shard: Shard, tmp_path: Path, valkey_url: str) -> None:
    """Records older than a day go, newer ones stay, and the sums of the record and the quarantine stay right."""
    settings = load(tmp_path, shard, valkey_url, dict.fromkeys(AGES, "1d"))
    await fill(server, shard, settings)

    async with AsyncExitStack() as stack:
        steps = open_steps(server, shard, settings, settings.store_url, stack)
        cleaner = Cleaner(server, shard, steps)
        removed = {kind: await cleaner.clean(kind, asyncio.Event()) for kind in AGES}
        again = {kind: await cleaner.clean(kind, asyncio.Event()) for kind in AGES}

    entries = {"dead_letters": OLD, "history": OLD, "invalid": OLD, "quarantine": OLD}
    assert removed == {**entries, "tables": 1, "archive": 1}
    assert set(again.values()) == {0}
    assert await count(server, shard, settings) == {**dict.fromkeys(entries, NEW), "tables": 1, "archive": 1}
    assert int((await server.hget(shard.invalid_totals, "bytes")) or 0) == NEW * 17
    index: Any = await server.hgetall(shard.quarantine_index)
    assert (len(index), index[b"entries of signed"]) == (NEW + 1, b"%d" % NEW)


async def test_a_worker_cleans(server: Redis, shard: Shard, valkey_url: str, tmp_path: Path) -> None:
    """A worker whose settings have an age removes old dead letters of its groups, and stops in order."""
    await server.sadd(shard.groups, "log")
    await add(server, shard.dead("log"), payload=b"x")
    settings = {"redis_url": valkey_url, "stream": shard.name, "handlers": "log", "dead_letters_retention": "1d"}

    async with run_worker(**settings, data=tmp_path):
        await until(lambda: _has(server, shard.dead("log"), NEW))


async def test_without_an_age_everything_stays(server: Redis, shard: Shard, tmp_path: Path, valkey_url: str) -> None:
    """By default no kind has an age, so the cleaner has nothing to do."""
    async with AsyncExitStack() as stack:
        assert open_steps(server, shard, load(tmp_path, shard, valkey_url, {}), "sqlite:///any.db", stack) == {}


async def test_one_worker_at_a_time_cleans_a_kind(server: Redis, shard: Shard) -> None:
    """Another worker has nothing to do while the first one cleans, and takes its turn afterwards."""
    gate, calls = asyncio.Event(), list[str]()

    async def first() -> int:
        calls.append("first")
        await gate.wait()
        return 0

    async def second() -> int:
        calls.append("second")
        return 0

    cleaner, other = Cleaner(server, shard, {"tables": first}), Cleaner(server, shard, {"tables": second})
    cleaning = asyncio.create_task(cleaner.clean("tables", asyncio.Event()))
    await until(lambda: _holds(calls == ["first"]))
    assert (await other.clean("tables", asyncio.Event()), calls) == (0, ["first"])

    gate.set()
    await cleaning
    await other.clean("tables", asyncio.Event())

    assert calls == ["first", "second"]


async def test_a_fault_of_one_kind_does_not_stop_the_others(
    server: Redis, shard: Shard, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fault is logged with the name of the kind, and the next kind has its turn."""
    stop = asyncio.Event()

    async def fail() -> int:
        raise OSError("secret")

    async def succeed() -> int:
        stop.set()
        return 0

    await Cleaner(server, shard, {"archive": fail, "tables": succeed}).run(stop)

    line = capsys.readouterr().out
    assert ("cleaner.failed" in line, "archive" in line, "secret" in line) == (True, True, False)


async def _holds(condition: bool) -> bool:
    return condition


async def _has(server: Redis, key: str, entries: int) -> bool:
    return await server.xlen(key) == entries
