"""A worker that runs while a later version, which says that it is compatible, migrates the tables."""

from collections.abc import Sequence
from functools import partial

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from stream.keys import Shard
from tests.support.in_process import run_worker
from tests.support.samples.events import body
from tests.support.streams.settled import append_payloads, is_settled
from tests.support.waiting import until
from tests.support.workers.store_rows import count_rows
from worker.store.tables import REVISION

MESSAGES = 20
STATUSES = ("submitted", "delivered", "read", *(f"seen-{number}" for number in range(9)))

ADDS = (
    "ALTER TABLE messages ADD COLUMN later TEXT",
    "ALTER TABLE status_events ADD COLUMN later INTEGER DEFAULT 7",
    "CREATE INDEX ix_messages_later ON messages (later)",
    "CREATE INDEX ix_status_events_later ON status_events (later, message_uuid)",
)
CHANGES_TYPES = (
    "ALTER TABLE messages ALTER COLUMN parts TYPE BIGINT",
    "ALTER TABLE status_events ALTER COLUMN event_id TYPE TEXT",
)
LATER = (
    "UPDATE alembic_version SET version_num = '9000'",
    f"UPDATE ackstream_schema SET earliest_revision = '{REVISION}'",  # noqa: S608 - a constant
)


def payloads_of(status: str) -> list[bytes]:
    """Return the payload of a status of each message."""
    fields = {"status": status, "sms": {"count_total": "2"}}
    return [body(message_uuid=f"m-{number}", **fields) for number in range(MESSAGES)]


@pytest.mark.parametrize(
    ("database_kind", "statements"),
    [("sqlite", ADDS), ("postgresql", ADDS), ("postgresql", CHANGES_TYPES)],
    indirect=["database_kind"],
)
async def test_a_worker_continues_after_a_later_migration(
    valkey_url: str, server: Redis, shard: Shard, engine: AsyncEngine, database_url: str, statements: Sequence[str]
) -> None:
    """It stores all statuses, and none becomes a dead letter, although it has used its connections before."""
    settings = {"redis_url": valkey_url, "stream": shard.name, "database_url": database_url, "handlers": "store"}
    async with run_worker(**settings):
        for number, status in enumerate(STATUSES, start=1):
            await append_payloads(server, shard, *payloads_of(status))
            if number == len(STATUSES) // 2:
                async with engine.begin() as connection:
                    for statement in (*statements, *LATER):
                        await connection.exec_driver_sql(statement)
            await until(partial(is_stored, server, shard, engine, number * MESSAGES))

    assert await server.xlen(shard.dead("store")) == 0


async def is_stored(server: Redis, shard: Shard, engine: AsyncEngine, number: int) -> bool:
    """Whether the group has no entry left, and this number of events is stored."""
    return await is_settled(server, shard, "store") and await count_rows(engine, "status_events") == number
