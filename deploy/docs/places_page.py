"""The page of everything that is stored: each key, table and kind of file, and what it has about a person."""

from collections.abc import Iterator, Mapping

from console.privacy.places import CONSOLE_TABLES, FILES, KEYS, TABLES, Kind
from deploy.docs.markdown import code, page, table

INTRODUCTION = """
`ackstream erase` and `export` work on the rows that have a name under *place* ([Privacy](../privacy.md)). The others
have nothing about a person. Keys are named as in `stream.keys`; [Redis keys](redis-keys.md) has their full names.
"""


def render() -> str:
    """Return the page."""
    return page(
        "Stored data",
        INTRODUCTION,
        "## Redis\n\n" + _table("key", KEYS),
        "## Database\n\n" + _table("table", TABLES),
        "## Files\n\n" + _table("file", FILES),
        "## Database of the console\n\n" + _table("table", CONSOLE_TABLES),
    )


def _table(name: str, kinds: Mapping[str, Kind]) -> str:
    return table((name, "content", "place", "kept"), _rows(kinds))


def _rows(kinds: Mapping[str, Kind]) -> Iterator[tuple[str, str, str, str]]:
    for name, kind in sorted(kinds.items(), key=lambda item: item[1].place is None):
        yield code(name), kind.content, code(kind.place) if kind.place else "", kind.kept
