"""Everything that is stored, read without the product: each line is a place and a record."""

import gzip
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hiredis
from redis.asyncio import Redis
from sqlalchemy import inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine


async def dump_redis(server: Redis, name: str = "") -> list[str]:
    """Return every record of every key that starts with the name, by the command that reads its type.

    On a server that tests share give the name of the stream: keys of other tests may expire.
    """
    read: dict[bytes, Callable[[bytes], Any]] = {
        b"string": server.get,
        b"hash": server.hgetall,
        b"list": lambda key: server.lrange(key, 0, -1),
        b"set": server.smembers,
        b"zset": lambda key: server.zrange(key, 0, -1, withscores=True),
        b"stream": server.xrange,
    }
    lines = []
    async for key in server.scan_iter(f"{name}*"):
        kind: Any = await server.type(key)
        found = await read[kind](key)
        records = list(found.items()) if isinstance(found, dict) else [found] if kind == b"string" else found
        lines += [f"{key.decode()}\t{record!r}" for record in records]
    return sorted(lines)


async def dump_tables(engine: AsyncEngine) -> list[str]:
    """Return every row of every table."""
    async with engine.connect() as connection:
        names = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        lines = []
        for name in names:
            rows = await connection.execute(text(f'SELECT * FROM "{name}"'))  # noqa: S608 - a name of a table
            lines += [f"{name}\t{tuple(row)!r}" for row in rows]
    return sorted(lines)


def dump_sqlite(path: Path) -> list[str]:
    """Return every row of every table of a file."""
    with sqlite3.connect(path) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [f"{path.name} {name}\t{row!r}" for name in names for row in database.execute(f"SELECT * FROM {name}")]  # noqa: S608 - a name of a table
    database.close()
    return sorted(rows)


def dump_archive(folder: Path) -> list[str]:
    """Return every command of every file, in order, and the names of the files that are in the index."""
    lines = []
    for path in sorted(folder.glob("*.gz")):
        reader = hiredis.Reader()
        reader.feed(gzip.decompress(path.read_bytes()))
        while (command := reader.gets()) is not False:
            lines.append(f"{path.name}\t{command!r}")
    names = {json.loads(line)["file"] for line in (folder / "index.jsonl").read_text().splitlines() if line.strip()}
    return [*lines, *(f"index\t{name}" for name in sorted(names))]


def dump_spool(data: Path) -> list[str]:
    """Return the entries of every file of the spool that Redis has not confirmed, without their numbers."""
    query = "SELECT fields FROM entries, marks WHERE number > confirmed ORDER BY number"
    lines = []
    for path in sorted((data / "spool").glob("*/*.db")):
        with sqlite3.connect(path) as database:
            entries = database.execute(query).fetchall()
        database.close()
        lines += [f"{path.relative_to(data)}\t{fields!r}" for (fields,) in entries]
    return lines
