"""The table of places is complete."""

import inspect
from pathlib import Path

from console.privacy.places import CONSOLE_TABLES, KEYS, TABLES
from console.privacy.redis_places import kind_of
from console.web.database import open_console_database
from stream.keys import Shard
from worker.store.tables import metadata

SHARD = Shard("any")


def find_kinds() -> dict[str, str]:
    """Return each kind of key with an example."""
    kinds = {}
    for name, member in vars(Shard).items():
        if isinstance(member, property):
            kinds[name] = getattr(SHARD, name)
        elif inspect.isfunction(member) and not name.startswith("_"):
            signature = inspect.signature(member)
            if signature.return_annotation is str:
                kinds[name] = getattr(SHARD, name)(*("group:x" for _ in list(signature.parameters)[1:]))
    return kinds


def test_every_kind_of_key_has_a_row() -> None:
    """A key of `stream.keys` is erased, or has a reason why it has nothing about a person; and it is recognised."""
    kinds = find_kinds()

    assert kinds.keys() == KEYS.keys()
    found = {name: kind_of(SHARD, key) for name, key in kinds.items()}
    assert {name: pair[0] for name, pair in found.items() if pair} == dict(zip(kinds, kinds, strict=True))
    assert found["dead"] == ("dead", "group:x")
    assert kind_of(SHARD, f"{SHARD.stream}:new") is None


async def test_every_table_has_a_row(tmp_path: Path) -> None:
    """A table of the database or of the console is erased, or has a reason why it has nothing about a person."""
    path = tmp_path / "console.db"
    async with open_console_database(path) as database:
        names = await database.execute_fetchall("SELECT name FROM sqlite_master WHERE type = 'table'")

    assert {name for (name,) in names} == CONSOLE_TABLES.keys()
    assert {*metadata.tables, "alembic_version"} == TABLES.keys()
