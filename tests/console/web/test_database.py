"""The console's own SQLite file: its rights, its schema, and several processes at once."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from console.web.database import STEPS, open_console_database
from runtime.errors import CommandError

OPEN_AND_ADD = """
import asyncio, sys
from pathlib import Path
from console.web.access.links import LinkTable
from console.web.access.roles import Role
from console.web.database import open_console_database

async def add():
    async with open_console_database(Path(sys.argv[1])) as database:
        for _ in range(20):
            await LinkTable(database).create(Role.VIEWER)

sys.stdin.read()
asyncio.run(add())
"""


async def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    """The folder has mode 0700, and the file, its log and its index 0600; wider rights of a file are taken back."""
    path = tmp_path / "console" / "console.db"
    async with open_console_database(path):
        pass
    path.chmod(0o644)

    async with open_console_database(path) as database:
        await database.execute("INSERT INTO links VALUES (x'00', 'admin', 0)")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (path.parent, *path.parent.iterdir())}

    assert modes == {"console": 0o700, "console.db": 0o600, "console.db-wal": 0o600, "console.db-shm": 0o600}


async def test_a_file_is_opened_again_with_its_data(tmp_path: Path) -> None:
    """The schema has a version, and a second opening changes nothing."""
    path = tmp_path / "console.db"
    for _ in range(2):
        async with open_console_database(path) as database:
            await database.execute("INSERT OR REPLACE INTO links VALUES (x'00', 'admin', 0)")

    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
        assert connection.execute("SELECT count(*) FROM links").fetchone() == (1,)
    connection.close()


async def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """An older console does not touch a schema that it does not know."""
    path = tmp_path / "console.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    connection.close()

    with pytest.raises(CommandError, match="newer version"):
        async with open_console_database(path):
            pass


async def test_a_failed_step_leaves_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is applied whole or not at all, and the error names the file."""
    path = tmp_path / "console.db"
    monkeypatch.setattr("console.web.database.STEPS", ("CREATE TABLE a (x); CREATE TABLE a (x)",))

    with pytest.raises(sqlite3.OperationalError, match="already exists") as failure:
        async with open_console_database(path):
            pass

    assert failure.value.__notes__ == [f"the console's database at {path}"]
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()


def test_several_processes_create_and_fill_one_file(tmp_path: Path) -> None:
    """Four processes open a missing file at the same moment and write to it; no row and no step is lost."""
    path = tmp_path / "console" / "console.db"
    command = [sys.executable, "-P", "-c", OPEN_AND_ADD, str(path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]

    ends = [process.communicate(timeout=240)[1] for process in processes]

    assert ends == [""] * 4
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM links").fetchone() == (80,)
    connection.close()


async def test_a_writer_waits_for_another_process(tmp_path: Path) -> None:
    """A statement waits while another process holds the write lock."""
    path = tmp_path / "console.db"
    async with open_console_database(path) as database:
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        write = asyncio.create_task(database.execute_insert("INSERT INTO links VALUES (x'00', 'admin', 0)"))
        await asyncio.sleep(0)
        writer.execute("COMMIT")
        writer.close()

        await write
