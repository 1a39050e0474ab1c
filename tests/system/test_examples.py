"""Every example over HTTP in its real form, through ingest, Redis and worker, into both databases."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from redis.asyncio import Redis
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine
from yarl import URL

import ingest.app
import worker.app
from console.queries.dead_letters import list_dead
from console.up.valkey import find_free_port
from ingest.settings import IngestSettings
from stream.keys import Shard
from tests.support.samples.examples import NAMES, example
from tests.support.samples.expected_rows import NO_STATUS, RECEIVED, ROWS
from tests.support.waiting import until
from worker.settings import WorkerSettings
from worker.store.tables import messages, status_events


@asynccontextmanager
async def run_example(redis_url: str, database_url: str, stream: str) -> AsyncIterator[str]:
    """Ingest and a worker with `store`, the address of the former."""
    stop = asyncio.Event()
    port = find_free_port()
    common = {"redis_url": redis_url, "stream": stream}
    taking = IngestSettings.load(**common, port=port, admin_port=0, signatures="off")
    storing = WorkerSettings.load(**common, database_url=database_url, handlers="store")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ingest.app.serve(taking, stop))
        tasks.create_task(worker.app.serve(storing, stop))
        yield f"http://127.0.0.1:{port}"
        stop.set()


async def send(http: aiohttp.ClientSession, base: str, name: str) -> int:
    sent = example(name)
    data = None if sent.method == "GET" else sent.payload
    headers = {"Content-Type": sent.content_type} if sent.content_type else {}
    while True:
        try:
            async with http.request(
                sent.method, URL(base + sent.url, encoded=True), data=data, headers=headers
            ) as answer:
                if answer.status != 503:  # not connected to Redis yet
                    return answer.status
        except aiohttp.ClientConnectionError:  # not listening yet
            await asyncio.sleep(0.01)


DERIVED = frozenset(("statuses", "first_at", "counted", "stale"))
"""Columns that follow from the others."""


def plain(row: Mapping[str, Any], received: str) -> dict[str, Any]:
    """Return the row in the form of the expected table."""
    fields = {name: value for name, value in row.items() if value is not None and name not in DERIVED}
    fields["status_at"] = RECEIVED if fields["status_at"].isoformat() == received else fields["status_at"].isoformat()
    return {"from" if name == "sender" else name: value for name, value in fields.items()}


async def test_each_example_gives_the_right_row(
    engine: AsyncEngine, database_url: str, valkey_url: str, server: Redis, shard: Shard
) -> None:
    """Each column is right on SQLite and PostgreSQL; an invalid payload becomes a dead letter with its bytes."""
    assert sorted([*ROWS, *NO_STATUS]) == NAMES
    wrong: dict[str, object] = {}
    async with run_example(valkey_url, database_url, shard.name) as base, aiohttp.ClientSession() as http:
        for name, expected in ROWS.items():
            assert await send(http, base, name) == 200
            row, event = await read_stored(engine)
            received = event["received_at"].isoformat()
            if plain(row, received) != expected:
                wrong[name] = plain(row, received)
            when = received if expected["status_at"] == RECEIVED else expected["status_at"]
            assert row["statuses"] == {expected["status"]: when}
            assert event["payload"] == example(name).payload
            async with engine.begin() as connection:
                await connection.execute(delete(messages))
                await connection.execute(delete(status_events))
        assert wrong == {}
        for number, (name, error) in enumerate(NO_STATUS.items(), 1):
            assert await send(http, base, name) == 200
            await until(lambda number=number: has_dead_letters(server, shard, number))  # type: ignore[misc]
            (newest,) = (await list_dead(server, [shard], ["store"], 1)).newest
            assert newest.fields[b"payload"] == example(name).payload
            assert newest.summary()["error"] == error


async def read_stored(engine: AsyncEngine) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the row of the only message and the row of the only event, once they are stored."""
    rows: list[Mapping[str, Any]] = []

    async def one() -> bool:
        async with engine.connect() as connection:
            message = (await connection.execute(select(messages))).one_or_none()
            event = (await connection.execute(select(status_events))).mappings().one_or_none()
        if message is None or event is None:
            return False
        by_key = {column.key: value for column, value in zip(messages.columns, message, strict=True)}
        rows.extend([by_key, dict(event)])
        return True

    await until(one)
    return rows[0], rows[1]


async def has_dead_letters(server: Redis, shard: Shard, count: int) -> bool:
    return bool(await server.xlen(shard.dead("store")) == count)
