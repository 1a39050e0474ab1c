"""Sessions: how each one ends."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiosqlite import Connection

from console.web.access.roles import Role
from console.web.access.sessions import IDLE_SECONDS, LONGEST_SECONDS, Session, SessionTable, end_sessions
from console.web.access.users import NO_PASSWORD, User, UserFile
from console.web.database import open_console_database
from tests.support.fake_clock import FakeClock
from tests.support.http.guarded import make_user

ANN = make_user("ann")


@dataclass(frozen=True, slots=True)
class Sessions:
    """A table of sessions, its users and its clock."""

    table: SessionTable
    users: UserFile
    clock: FakeClock
    database: Connection


@pytest.fixture
async def sessions(tmp_path: Path) -> AsyncIterator[Sessions]:
    users, clock = UserFile(tmp_path / "users"), FakeClock()
    users.put(ANN)
    async with open_console_database(tmp_path / "console.db") as database:
        yield Sessions(SessionTable(database, users, clock), users, clock, database)


async def test_a_session_has_the_role_of_its_user(sessions: Sessions) -> None:
    """The secret has 256 random bits, and the database does not have it."""
    secret = await sessions.table.start(ANN)

    assert await sessions.table.find(secret) == Session("ann", Role.VIEWER)
    assert len(secret) == 43
    rows = [tuple(row) for row in await sessions.database.execute_fetchall("SELECT * FROM sessions")]
    assert secret not in repr(rows)


@pytest.mark.parametrize("secret", ["", "x", "\ud800", "x" * 10_000])
async def test_an_unknown_secret_is_no_session(sessions: Sessions, secret: str) -> None:
    """Any text may come as a cookie."""
    await sessions.table.start(ANN)

    assert await sessions.table.find(secret) is None


async def test_a_session_ends_after_eight_hours_without_use(sessions: Sessions) -> None:
    """A use starts the time again; a look of a live stream does not."""
    used, watched = await sessions.table.start(ANN), await sessions.table.start(ANN)

    sessions.clock.now += IDLE_SECONDS - 1
    assert await sessions.table.find(used)
    assert await sessions.table.find(watched, is_use=False)
    sessions.clock.now += 2

    assert await sessions.table.find(used)
    assert await sessions.table.find(watched) is None


async def test_a_session_ends_after_seven_days(sessions: Sessions) -> None:
    """Use does not make it longer."""
    secret = await sessions.table.start(ANN)

    for _ in range(28):
        assert await sessions.table.find(secret)
        sessions.clock.now += LONGEST_SECONDS / 28
    assert await sessions.table.find(secret) is None


@pytest.mark.parametrize("changed", [make_user("ann", Role.ADMIN), User("ann", Role.VIEWER, NO_PASSWORD), None])
async def test_a_session_ends_when_its_user_changes(sessions: Sessions, changed: User | None) -> None:
    """A new role, a new password and a removal end it, and it stays ended when the user comes back as before."""
    secret, second = await sessions.table.start(ANN), await sessions.table.start(ANN)

    if changed:
        sessions.users.put(changed)
    else:
        sessions.users.remove("ann")
    assert await sessions.table.find(secret) is None
    sessions.users.put(ANN)

    assert await sessions.table.find(secret) is None
    assert await sessions.table.find(second)  # nobody used it in between, and the user is the same again


async def test_a_session_can_be_ended(sessions: Sessions) -> None:
    """One ends by its secret; all of a name end together, and those of others stay."""
    first, second = await sessions.table.start(ANN), await sessions.table.start(ANN)
    linked = await sessions.table.start_for_link("link:1", Role.ADMIN)

    await sessions.table.end(first)
    assert await sessions.table.find(first) is None
    assert await sessions.table.find(second)
    assert await end_sessions(sessions.database, "ann") == 1

    assert await sessions.table.find(second) is None
    assert await sessions.table.find(linked) == Session("link:1", Role.ADMIN)


async def test_ended_sessions_leave_the_table(sessions: Sessions) -> None:
    """The table keeps only the sessions that can still be used."""
    for _ in range(3):
        await sessions.table.start(ANN)
        sessions.clock.now += IDLE_SECONDS + 1
    await sessions.table.start(ANN)

    assert [tuple(row) for row in await sessions.database.execute_fetchall("SELECT count(*) FROM sessions")] == [(1,)]


async def test_a_session_continues_on_a_full_disk(sessions: Sessions) -> None:
    """The console shows the failure of the disk to those who are signed in; only their last use cannot be stored."""
    secret = await sessions.table.start(ANN)
    await sessions.database.execute("PRAGMA query_only = ON")  # each write fails as on a full disk

    sessions.clock.now += 3600

    assert await sessions.table.find(secret) == Session("ann", Role.VIEWER)


async def test_sessions_survive_a_restart(sessions: Sessions, tmp_path: Path) -> None:
    """Another process on the same file knows them."""
    secret = await sessions.table.start(ANN)

    async with open_console_database(tmp_path / "console.db") as database:
        assert await SessionTable(database, UserFile(tmp_path / "users"), sessions.clock).find(secret)
