import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from console.queries.statuses import search
from console.queries.statuses.figures import Capped
from console.queries.statuses.reading import QueryTooSlow, open_reader
from console.queries.statuses.search import InvalidCursor, MessageFilter, count_newer, find_messages
from tests.support.databases import make_sqlite
from tests.support.samples.events import body, event
from tests.support.workers.store_rows import clear_tables
from worker.store.database import open_engine
from worker.store.handler import Store
from worker.store.migrate import migrate

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
NUMBER = "447700900123"


async def store(engine: AsyncEngine, *messages: dict[str, Any]) -> list[str]:
    """Store an event of each message, an hour apart, and return their event ids."""
    events = [
        event(body(timestamp=(NOON + timedelta(hours=place)).isoformat(), **fields), at=f"0/179600000000{place}-0")
        for place, fields in enumerate(messages)
    ]
    await Store(engine).handle(events)
    return [stored.event_id for stored in events]


async def find_ids(engine: AsyncEngine, **filters: Any) -> list[str]:
    page = await find_messages(engine, MessageFilter(**filters))
    return [message.message_uuid for message in page.messages]


async def test_one_text_finds_a_message_by_any_of_its_names(engine: AsyncEngine) -> None:
    """The box takes an id, a client_ref, an entry id, and a number as people write it."""
    await store(
        engine,
        {"message_uuid": "m-a", "to": "447700900124"},
        {"message_uuid": "m-b", "to": NUMBER, "client_ref": "order 7/8"},
    )
    for looked_for, matched in (
        ("m-b", "message_uuid"),
        (" order 7/8 ", "client_ref"),
        (NUMBER, "number"),
        (f"+{NUMBER}", "number"),
        ("+44 7700 900-123", "number"),
        ("0044 (7700) 900123", "number"),
        ("0/1796000000001-0", "entry"),
        ("1796000000001-0", "entry"),
    ):
        page = await find_messages(engine, MessageFilter(text=looked_for))
        assert ([message.message_uuid for message in page.messages], page.matched) == (["m-b"], [matched]), looked_for


async def test_an_event_id_finds_its_message(engine: AsyncEngine) -> None:
    """The id of an event is accepted in any letter case."""
    _, event_id = await store(engine, {"message_uuid": "m-a"}, {"message_uuid": "m-b"})
    page = await find_messages(engine, MessageFilter(text=event_id.upper()))
    assert ([message.message_uuid for message in page.messages], page.matched) == (["m-b"], ["event_id"])


async def test_a_number_with_a_plus_is_found_as_stored(engine: AsyncEngine) -> None:
    """Some senders write numbers with a plus, and some recipients have names instead of numbers."""
    await store(engine, {"message_uuid": "m-a", "to": f"+{NUMBER}"}, {"message_uuid": "m-b", "client_ref": NUMBER})
    page = await find_messages(engine, MessageFilter(text=NUMBER))
    assert [message.message_uuid for message in page.messages] == ["m-b", "m-a"]
    assert set(page.matched) == {"client_ref", "number"}


async def test_long_values_are_compared_as_a_whole(engine: AsyncEngine) -> None:
    """An index has the first 64 characters only; a message with another end is not found."""
    long = "x" * 1000
    await store(engine, {"message_uuid": "m-a", "client_ref": f"{long}a"}, {"message_uuid": "m-b", "client_ref": long})
    assert await find_ids(engine, text=long) == ["m-b"]


async def test_other_texts_find_nothing(engine: AsyncEngine) -> None:
    """Wildcards, quotes and texts without a match give an empty page."""
    await store(engine, {"message_uuid": "m-a"})
    for looked_for in ("nothing", "%", "m-_", "'", "\0", "x" * 5000, "٣٣٣٣٣٣"):
        page = await find_messages(engine, MessageFilter(text=looked_for))
        assert (page.messages, page.next, page.matched, page.newest) == ([], None, [], None), looked_for


FILTERS: Sequence[tuple[dict[str, Any], list[str]]] = (
    ({}, ["m-f", "m-e", "m-d", "m-c", "m-b", "m-a"]),
    ({"text": "   "}, ["m-f", "m-e", "m-d", "m-c", "m-b", "m-a"]),
    ({"status": "rejected"}, ["m-d", "m-b"]),
    ({"is_open": True}, ["m-f", "m-e", "m-c"]),
    ({"is_open": True, "status": "seen"}, ["m-e"]),
    ({"channel": "rcs"}, ["m-d"]),
    ({"error": "1210"}, ["m-b"]),
    ({"status": "rejected", "error": "1000", "channel": "rcs"}, ["m-d"]),
    ({"error": "1000", "channel": "sms"}, []),
    ({"error": "1210", "status": "seen"}, []),
    ({"error": "1300", "is_open": True}, ["m-f"]),
    ({"status": "rejected", "is_open": True}, []),
    ({"channel": "x" * 70}, ["m-a"]),
    ({"since": NOON + timedelta(hours=1), "until": NOON + timedelta(hours=3)}, ["m-c", "m-b"]),
    ({"account": "nobody"}, []),
)


@pytest.mark.parametrize("first_rows", [10_000, 1])
async def test_filters_apply_together(engine: AsyncEngine, first_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list has the messages with all values, newest first, also if the roll-ups say where they are."""
    monkeypatch.setattr(search, "FIRST_ROWS", first_rows)
    await store(
        engine,
        {"message_uuid": "m-a", "channel": "x" * 70},
        {"message_uuid": "m-b", "status": "rejected", "error": {"title": "1210"}},
        {"message_uuid": "m-c", "status": "submitted"},
        {"message_uuid": "m-d", "status": "rejected", "error": {"title": "1000"}, "channel": "rcs"},
        {"message_uuid": "m-e", "status": "seen"},
        {"message_uuid": "m-f", "status": "submitted", "error": {"title": "1300"}},
    )
    for filters, expected in FILTERS:
        assert await find_ids(engine, **filters) == expected, filters


async def test_the_index_of_unknown_statuses_answers_a_filter(engine: AsyncEngine) -> None:
    """A status that no message ever had is looked up in an index that hardly has a row, however many messages exist."""
    await store(engine, {"message_uuid": "m-a", "status": "seen"}, {"message_uuid": "m-b"})
    is_postgresql = engine.dialect.name == "postgresql"
    statements: list[tuple[str, Any]] = []
    sqlalchemy_event.listen(
        engine.sync_engine, "before_cursor_execute", lambda *call: statements.append((call[2], call[3]))
    )
    assert await find_ids(engine, status="seen") == ["m-a"]
    statement, values = next(each for each in statements if "messages" in each[0])

    async with engine.connect() as connection:
        if is_postgresql:
            await connection.execute(text("SET enable_seqscan = off"))
        explain = "EXPLAIN" if is_postgresql else "EXPLAIN QUERY PLAN"
        plan = str((await connection.exec_driver_sql(f"{explain} {statement}", values)).all())

    assert "ix_status_events_unknown" in plan
    assert await find_ids(engine, status="no-such") == []


@pytest.mark.parametrize("first_rows", [10_000, 3])
async def test_pages_show_each_message_once(
    engine: AsyncEngine, first_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages of the same moment are neither lost nor repeated between pages, while new ones arrive."""
    monkeypatch.setattr(search, "FIRST_ROWS", first_rows)
    for filters in (
        {},
        {"text": NUMBER},
        {"channel": "sms"},
        {"error": "1210"},
        {"status": "rejected"},
        {"error": "1210", "status": "rejected"},
        {"since": NOON, "until": NOON + timedelta(days=2)},
        {"text": NUMBER, "since": NOON, "until": NOON + timedelta(days=2)},
        {"channel": "sms", "since": NOON, "until": NOON + timedelta(days=2)},
        {"error": "1210", "since": NOON, "until": NOON + timedelta(days=2)},
    ):
        await check_pages(engine, filters)
        await clear_tables(engine)


async def check_pages(engine: AsyncEngine, filters: Mapping[str, Any]) -> None:
    """Store messages that all fit the filters, and assert that the pages list them, and no later ones."""
    fields = {"status": "rejected", "to": NUMBER, "error": {"title": "1210"}}
    names = [f"m-{n:02}" for n in range(23)]
    events = [
        event(body(message_uuid=name, timestamp=(NOON + timedelta(hours=place // 7)).isoformat(), **fields))
        for place, name in enumerate(names)
    ]
    await Store(engine).handle(events)
    chosen, listed, cursor = MessageFilter(**filters), list[str](), None
    newest = (await find_messages(engine, chosen)).newest
    assert newest is not None

    while True:
        page = await find_messages(engine, chosen, cursor, limit=4)
        listed += [message.message_uuid for message in page.messages]
        cursor = page.next
        late = (NOON + timedelta(days=1)).isoformat()
        await Store(engine).handle([event(body(message_uuid=f"new-{len(listed)}", timestamp=late, **fields))])
        if cursor is None:
            break

    assert sorted(listed) == names
    assert listed == sorted(listed, key=lambda name: (-(names.index(name) // 7), [-ord(letter) for letter in name]))
    assert await count_newer(engine, chosen, newest) == Capped(6, is_exact=True)
    assert await count_newer(engine, chosen, newest, limit=2) == Capped(2, is_exact=False)


@pytest.mark.parametrize("after", [None, f"{(NOON + timedelta(days=4)).isoformat()}_m"])
async def test_a_list_of_rare_messages_reads_each_message_at_most_once(
    tmp_path: Path, after: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work of SQLite for a list of a month grows as the number of messages: it looks at an hour by itself."""
    monkeypatch.setattr(search, "FIRST_ROWS", 10)
    engine = open_engine(make_sqlite(tmp_path / "test.db"))
    chosen = MessageFilter(channel="mms", since=NOON, until=NOON + timedelta(days=30))
    steps = []
    for number in (200, 400):
        times = [(NOON + timedelta(minutes=24 * place)).isoformat() for place in range(number)]
        channels = ["mms", *["sms"] * 9] * (number // 10)
        await Store(engine).handle(
            [
                event(body(message_uuid=f"m-{number}-{place}", channel=channel, timestamp=time))
                for place, (channel, time) in enumerate(zip(channels, times, strict=True))
            ]
        )
        steps.append(await count_steps(engine, chosen, after))
        await clear_tables(engine)
    await engine.dispose()
    assert steps[1] < 2.5 * steps[0]


async def count_steps(engine: AsyncEngine, chosen: MessageFilter, after: str | None) -> int:
    """Return how many instructions SQLite needs for a list."""
    calls = itertools.count()

    def count() -> int:
        next(calls)
        return 0

    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.set_progress_handler(count, 10)
    await find_messages(engine, chosen, after, limit=100)
    return next(calls)


async def test_a_count_of_rare_newer_messages_is_limited(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that was open for weeks counts the latest of its new messages, and says that there are more."""
    monkeypatch.setattr(search, "MOST_HOURS", 2)
    times = [(NOON + timedelta(hours=2 * place)).isoformat() for place in range(4)]
    await Store(engine).handle([event(body(message_uuid=f"m-{time}", timestamp=time)) for time in times])
    for hours, expected in ((4, Capped(1, is_exact=True)), (0, Capped(2, is_exact=False))):
        newest = f"{(NOON + timedelta(hours=hours)).isoformat()}_z"
        assert await count_newer(engine, MessageFilter(channel="sms"), newest) == expected


async def test_another_text_is_no_cursor(engine: AsyncEngine) -> None:
    """A cursor that no page gave is refused."""
    for cursor in (
        "",
        "x",
        "2026-11-28T12:00:00_m",
        "2026-11-28T12:00:00+00:00_",
        "_m",
        "0001-01-01T00:00:00+14:00_m",
        "9999-12-31T23:00:00-14:00_m",
    ):
        with pytest.raises(InvalidCursor):
            await find_messages(engine, MessageFilter(), cursor)


async def test_a_cursor_may_have_any_time_and_zone(engine: AsyncEngine) -> None:
    """Another zone means the same place in the list, and no message is earlier than the year 1."""
    await store(engine, {"message_uuid": "m-a"}, {"message_uuid": "m-b"}, {"message_uuid": "m-c"})
    chosen = MessageFilter(channel="sms")
    for cursor in ("2026-11-28T13:00:00+00:00_m-b", "2026-11-28T18:30:00+05:30_m-b"):
        page = await find_messages(engine, chosen, cursor)
        assert [message.message_uuid for message in page.messages] == ["m-a"], cursor
        assert await count_newer(engine, chosen, cursor) == Capped(1, is_exact=True), cursor
    assert await count_newer(engine, chosen, "0001-01-01T00:00:00+00:00_m") == Capped(3, is_exact=True)


async def test_a_slow_query_is_stopped_by_the_database(engine: AsyncEngine) -> None:
    """The statement ends on the server, and the connection can be used again."""
    endless = {
        "postgresql": "SELECT pg_sleep(60)",
        "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    }
    with pytest.raises(QueryTooSlow, match="shorter time"):
        async with open_reader(engine, 0.2) as connection:
            await connection.execute(text(endless[engine.dialect.name]))
    async with open_reader(engine) as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar() == 1


async def test_a_reader_cannot_write(postgresql_url: str) -> None:
    """A read of the console changes nothing, even with a statement that writes."""
    engine = open_engine(postgresql_url)
    await migrate(engine)
    with pytest.raises(Exception, match="read-only"):
        async with open_reader(engine) as connection:
            await connection.execute(text("DELETE FROM messages"))
    await engine.dispose()
