"""The audit log of the console as a place: an act stays, and its texts about the subject are replaced."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from console.privacy.place import Pages
from console.privacy.places import CONSOLE_TABLES
from console.privacy.selection import Record, Selection
from console.web.database import open_console_database

PAGE = 1000
TEXTS = ("scope", "why", "result")
ERASED = "erased"


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
        async with open_console_database(self._path) as database:
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
            async with open_console_database(self._path) as database:
                await database.execute("PRAGMA secure_delete = ON")
                for record in records:
                    names = _list_texts(record, selection)
                    changes = ", ".join(f"{name} = ?" for name in names)
                    statement = f"UPDATE audit SET {changes} WHERE id = ?"  # noqa: S608 - names of columns
                    await database.execute(statement, (*[ERASED] * len(names), record.key))
        return {self.name: len(records)}


def _list_texts(record: Record, selection: Selection) -> list[str]:
    return [name.decode() for name, text in record.fields.items() if selection.has_text(text.decode())]
