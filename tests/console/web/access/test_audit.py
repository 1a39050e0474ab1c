"""The audit log."""

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path

import pytest
from aiosqlite import Connection
from hypothesis import example, given
from hypothesis import strategies as st

from console.web.access import audit
from console.web.access.audit import AuditLog, mask_digits
from console.web.access.roles import Identity, Role
from console.web.actions.interruption import record_interruption
from console.web.database import open_console_database
from tests.support.fake_clock import FakeClock

ANN = Identity("ann", Role.OPERATOR, "192.0.2.1")
BOB = Identity("bob", Role.ADMIN, "192.0.2.2")
UUID = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"


def read_all(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Connection]:
    async with open_console_database(tmp_path / "console.db") as database:
        yield database


@pytest.fixture
def log(database: Connection, clock: FakeClock) -> AuditLog:
    return AuditLog(database, clock)


async def test_an_action_is_read_as_it_was_recorded(log: AuditLog, clock: FakeClock) -> None:
    """An entry has the person, the role and address at that time, and all that was said about the action."""
    await log.record(ANN, action="dead-letters.replay", scope="group=orders", count=12, why="fixed", result="started")

    entry = audit.AuditEntry(
        1, clock.now, "ann", "operator", "192.0.2.1", "dead-letters.replay", "group=orders", 12, "fixed", "started"
    )
    assert await log.read() == [entry]


async def test_an_act_that_the_end_of_the_console_cancels_is_recorded(log: AuditLog) -> None:
    """A part of it may be done, so the entry has the person, the scope and the reason."""
    started = asyncio.Event()

    async def act() -> None:
        async with record_interruption(log, ANN, action="invalid.discard", scope="all", why="old"):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(act())
    await started.wait()
    task.cancel()
    await asyncio.wait([task])

    [entry] = await log.read()
    assert task.cancelled()
    assert (entry.who, entry.scope, entry.why) == ("ann", "all", "old")
    assert entry.result == "interrupted: the console was stopped"


async def test_pages_have_every_entry_once(log: AuditLog) -> None:
    """The newest is first, and entries that arrive between two pages move nothing."""
    for number in range(10):
        await log.record(ANN, action="a", count=number, result="")

    page = await log.read(limit=4)
    await log.record(ANN, action="a", count=10, result="")
    counts = [entry.count for entry in page]
    while page := await log.read(limit=4, before=page[-1].id):
        counts += [entry.count for entry in page]

    assert counts == list(range(9, -1, -1))


async def test_filters_combine(log: AuditLog, clock: FakeClock) -> None:
    """Person, action or its first part, and a time whose end is not included."""
    for identity, action in ((ANN, "groups.pause"), (BOB, "groups.drop"), (ANN, "groupsx.y"), (ANN, "groups")):
        await log.record(identity, action=action, result="")
        clock.now += 10

    async def actions(**filters: object) -> list[str]:
        return [entry.action for entry in await log.read(**filters)]  # type: ignore[arg-type]

    assert await actions(action="groups") == ["groups", "groups.drop", "groups.pause"]
    assert await actions(action="groups.drop") == ["groups.drop"]
    assert await actions(who="bob") == ["groups.drop"]
    assert await actions(since=1010, until=1030) == ["groupsx.y", "groups.drop"]
    assert await actions(who="ann", action="groups", since=1001, until=1031) == ["groups"]
    assert await actions(who="ann", action="groups", until=1031, before=4) == ["groups.pause"]
    assert await actions(who="' OR 1=1 --") == []


@pytest.mark.parametrize(
    ("who", "action", "index"),
    [
        ("", "", "audit_at"),
        ("ann", "", "audit_who"),
        ("", "groups", "audit_area"),
        ("", "groups.drop", "audit_action"),
        ("ann", "groups", "audit_who_area"),
        ("ann", "groups.drop", "audit_who_action"),
    ],
)
async def test_each_filter_has_an_index_in_its_order(
    log: AuditLog, database: Connection, who: str, action: str, index: str
) -> None:
    """No page of a full log needs a sort or a scan of many rows: it would delay all requests of the console."""
    queries: list[str] = []
    await database.set_trace_callback(queries.append)
    for since, until, before in product((None, 1.0), (None, 2.0), (None, 7)):
        await log.read(who=who, action=action, since=since, until=until, before=before)
    await database.set_trace_callback(None)  # type: ignore[arg-type]  # the documented value

    plans = [
        await database.execute_fetchall(f"EXPLAIN QUERY PLAN {query.replace('Inf', '9e999')}") for query in queries
    ]
    assert len(plans) == 8
    for plan in plans:
        steps = "; ".join(row[3] for row in plan) + " "
        assert f"audit USING INDEX {index} " in steps
        assert "TEMP B-TREE" not in steps


async def test_a_clock_that_was_set_back_loses_no_entry(log: AuditLog, clock: FakeClock) -> None:
    """Pages follow the times of the entries, and have each entry once."""
    for number in range(9):
        clock.now += -100 if number == 5 else 10
        await log.record(ANN, action="a", count=number, result="")

    counts: list[int | None] = []
    before = None
    while page := await log.read(limit=2, before=before):
        counts += [entry.count for entry in page]
        before = page[-1].id

    assert sorted(count or 0 for count in counts) == list(range(9))


async def test_old_entries_are_dropped(log: AuditLog, clock: FakeClock) -> None:
    """An entry stays for 400 days."""
    await log.record(ANN, action="old", result="")
    clock.now += audit.KEEP_SECONDS - 1
    await log.record(ANN, action="middle", result="")
    assert len(await log.read()) == 2
    clock.now += 2

    await log.record(ANN, action="new", result="")

    assert [entry.action for entry in await log.read()] == ["new", "middle"]


async def test_the_age_of_entries_is_a_setting(database: Connection, clock: FakeClock) -> None:
    """A console drops old entries also when it starts, not only with the next action."""
    log = AuditLog(database, clock, keep_seconds=100)
    await log.record(ANN, action="old", result="")
    clock.now += 99
    await log.drop_old()
    assert len(await log.read()) == 1
    clock.now += 2

    await log.drop_old()

    assert await log.read() == []


async def test_the_number_of_entries_is_limited(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest entries beyond the limit are dropped."""
    monkeypatch.setattr(audit, "MAX_ROWS", 3)
    for number in range(5):
        await log.record(ANN, action="a", count=number, result="")

    assert [entry.count for entry in await log.read()] == [4, 3, 2]


async def test_a_page_has_a_limit(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller cannot read everything at once."""
    monkeypatch.setattr(audit, "MAX_PAGE", 2)
    for _ in range(3):
        await log.record(ANN, action="a", result="")

    assert len(await log.read(limit=1000)) == 2


async def test_numbers_and_control_characters_do_not_reach_the_file(log: AuditLog, tmp_path: Path) -> None:
    """A person may type a phone number as the reason; the file, its log included, never has it."""
    await log.record(
        ANN, action="reveal", scope="to=447700900123", why="asked by +44 7700 900123\nfake: line", result="447700900123"
    )

    entry = (await log.read())[0]
    assert (entry.scope, entry.why, entry.result) == (
        "to=********0123",
        "asked by +********0123 fake: line",
        "********0123",
    )
    assert b"7700900" not in read_all(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        UUID,
        "0/1764000000000-12",
        "replay 380945f5 started",
        "since=2026-11-28T10:00:00Z",
        "10,000 of 12345",
        "HTTP 503",
        "reason=12 345",
    ],
)
def test_ids_dates_and_counts_stay_readable(text: str) -> None:
    """An entry has to say which message or entry it was about."""
    assert mask_digits(text) == text


@given(st.text(alphabet="0123456789 -.()+/x", max_size=60) | st.text(max_size=600))
@example("0447700900123/1764000000000-1")
@example(f"{UUID}447700900123")
@example("1/1764000000000-447700900123")
def test_no_long_number_stays(text: str) -> None:
    """Apart from ids and dates at most five digits follow each other, with or without blanks and signs between them."""
    masked = audit.READABLE.sub("", mask_digits(text))

    assert not re.search(r"\d(?:[ ().-]{0,2}\d){5}", masked)
    assert len(masked) <= audit.LONGEST_TEXT
    assert masked.isprintable()
