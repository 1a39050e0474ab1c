"""The audit log of the console as a place: an act stays, and its texts about the subject are replaced."""

import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite

from console.privacy.place import Pages
from console.privacy.places import CONSOLE_TABLES
from console.privacy.selection import Record, Selection

PAGE = 1000
TEXTS = ("scope", "why", "result")
ERASED = "erased"
BUSY_SECONDS = 5.0
"""How long a statement waits for the running console."""


class Audit:
    """The audit log in a console's database."""

    name = str(CONSOLE_TABLES["audit"].place)

    def __init__(self, path: Path) -> None:
        self.seen = 0
        self._path = path

    async def find(self, selection: Selection) -> Pages:
        """Yield the acts with a text about the selection. Raises sqlite3.Error."""
        if not self._path.exists():
            return
        query = f"SELECT id, {', '.join(TEXTS)} FROM audit WHERE id > ? ORDER BY id LIMIT {PAGE}"  # noqa: S608 - constants
        after = 0
        async with _open(self._path) as database:
            while rows := list(await database.execute_fetchall(query, (after,))):
                self.seen += len(rows)
                records = [
                    Record(row[0], dict(zip(map(str.encode, TEXTS), map(str.encode, row[1:]), strict=True)))
                    for row in rows
                ]
                yield [record for record in records if _list_texts(record, selection)]
                after = rows[-1][0]

    async def erase(self, records: Sequence[Record], selection: Selection) -> Mapping[str, int]:
        """Replace the texts. Raises sqlite3.Error."""
        if records:
            async with _open(self._path) as database:
                await database.execute("PRAGMA secure_delete = ON")
                for record in records:
                    names = _list_texts(record, selection)
                    changes = ", ".join(f"{name} = ?" for name in names)
                    statement = f"UPDATE audit SET {changes} WHERE id = ?"  # noqa: S608 - names of columns
                    await database.execute(statement, (*[ERASED] * len(names), record.key))
        return {self.name: len(records)}


def _list_texts(record: Record, selection: Selection) -> list[str]:
    return [name.decode() for name, text in record.fields.items() if selection.has_text(text.decode())]


@asynccontextmanager
async def _open(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """Open the file of a console, which exists. Raises sqlite3.Error with a note."""
    try:
        async with aiosqlite.connect(path, timeout=BUSY_SECONDS, isolation_level=None) as database:
            yield database
    except sqlite3.Error as exc:
        exc.add_note(f"the console's database at {path}")
        raise
