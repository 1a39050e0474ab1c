"""Sign-in links and bearer tokens."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from aiosqlite import Connection
from hypothesis import given
from hypothesis import strategies as st

from console.web.access.credentials import is_name
from console.web.access.links import LINK_SECONDS, LinkTable, create_link
from console.web.access.roles import Role
from console.web.access.tokens import PREFIX, Token, TokenTable
from console.web.database import open_console_database
from tests.support.fake_clock import FakeClock


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Connection]:
    async with open_console_database(tmp_path / "console.db") as database:
        yield database


async def test_a_link_works_once(database: Connection) -> None:
    """Of many uses at the same moment one gets in."""
    links = LinkTable(database)
    secret = await links.create(Role.OPERATOR)

    uses = await asyncio.gather(*(links.use(secret) for _ in range(20)))

    names = [use for use in uses if use]
    assert [role for _, role in names] == [Role.OPERATOR]
    assert names[0][0].startswith("link:")


async def test_a_link_expires(database: Connection) -> None:
    """It is valid for 15 minutes, and an expired one leaves the table."""
    clock = FakeClock()
    links = LinkTable(database, clock)
    expired, valid = await links.create(Role.ADMIN), None
    clock.now += LINK_SECONDS - 1
    valid = await links.create(Role.ADMIN)
    clock.now += 1

    assert await links.use(expired) is None
    assert await links.use(valid)
    assert await links.use("x") is None
    await links.create(Role.ADMIN)
    clock.now += LINK_SECONDS
    await links.create(Role.ADMIN)
    assert [tuple(row) for row in await database.execute_fetchall("SELECT count(*) FROM links")] == [(1,)]


async def test_another_process_makes_a_link(database: Connection, tmp_path: Path) -> None:
    """`ackstream console link` writes to the file of the running console, which knows the link at once."""
    url = await create_link(tmp_path / "console.db", "http://127.0.0.1:8080/", Role.VIEWER)

    parts = urlsplit(url)
    assert parts[:3] == ("http", "127.0.0.1:8080", "/sign-in")
    use = await LinkTable(database).use(parse_qs(parts.query)["link"][0])
    assert use is not None
    assert use[1] is Role.VIEWER


async def test_a_token_is_known_until_it_is_removed(database: Connection) -> None:
    """The database has its digest only. A second token of the same name is refused."""
    clock = FakeClock()
    tokens = TokenTable(database, clock)

    secret = await tokens.add("ci", Role.OPERATOR)

    assert secret is not None
    assert secret.startswith(PREFIX)
    assert await tokens.add("ci", Role.ADMIN) is None
    assert await tokens.find(secret) == Token("ci", Role.OPERATOR, clock.now, None)
    assert await tokens.find(secret + "x") is None
    assert await tokens.read() == [Token("ci", Role.OPERATOR, clock.now, clock.now)]
    assert secret not in repr([tuple(row) for row in await database.execute_fetchall("SELECT * FROM tokens")])
    assert await tokens.remove("ci")
    assert not await tokens.remove("ci")
    assert await tokens.find(secret) is None


async def test_a_token_works_on_a_full_disk(database: Connection) -> None:
    """An autoscaler keeps its number; only the last use of the token cannot be stored."""
    tokens = TokenTable(database)
    secret = await tokens.add("ci", Role.VIEWER) or ""
    await database.execute("PRAGMA query_only = ON")  # each write fails as on a full disk

    assert await tokens.find(secret)


async def test_the_last_use_of_a_token_is_exact_to_an_hour(database: Connection) -> None:
    """A busy program does not cause a write for each request."""
    clock = FakeClock()
    tokens = TokenTable(database, clock)
    secret, start = await tokens.add("ci", Role.VIEWER) or "", clock.now

    for seconds, used_at in ((0, start), (3000, start), (601, start + 3601)):
        clock.now += seconds
        await tokens.find(secret)
        assert [token.used_at for token in await tokens.read()] == [used_at]


@pytest.mark.parametrize("secret", ["", PREFIX, "\ud800", "\x00", "' OR 1=1 --", "x" * 100_000])
async def test_any_text_may_come_as_a_secret(database: Connection, secret: str) -> None:
    """It is neither a token nor a link."""
    tokens, links = TokenTable(database), LinkTable(database)
    await tokens.add("ci", Role.ADMIN)
    await links.create(Role.ADMIN)

    assert (await tokens.find(secret), await links.use(secret)) == (None, None)


@given(st.text(max_size=70))
def test_a_name_has_no_character_that_a_file_or_page_acts_on(name: str) -> None:
    """Names of users and tokens are short, and plain ASCII."""
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-")
    assert is_name(name) == (0 < len(name) <= 64 and set(name) <= allowed and name[0].isalnum())
