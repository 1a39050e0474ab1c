"""The console's own files cannot be used: people who are signed in continue, and the others see the reason."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from console.web.access.roles import Role
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, run_console


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


async def test_a_file_of_users_that_cannot_be_read_is_not_an_empty_one(
    console: ConsoleServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sign-in by password is answered 503; a session of a link continues, and the log names the file."""
    console.settings.users_file.mkdir()
    async with console.visit(Role.VIEWER) as person, console.visit(None) as stranger:
        page = await person.get("/")
        refused = await stranger.post("/sign-in", {"name": "ann", "password": "wrong"})

    assert (page.status, refused.status) == (200, 503)
    assert "The console cannot use its own files." in refused.text
    assert str(console.settings.users_file) in capsys.readouterr().out


async def test_a_broken_database_is_explained(console: ConsoleServer) -> None:
    """The answer does not blame the database of statuses."""
    connection = sqlite3.connect(console.settings.console_database)
    connection.execute("DROP TABLE links")
    connection.close()

    async with console.visit(None) as stranger:
        refused = await stranger.post("/sign-in", {"link": "x"})

    assert refused.status == 503
    assert "The console cannot use its own files." in refused.text
