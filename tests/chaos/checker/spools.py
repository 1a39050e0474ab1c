"""Counts the entries in the spools: of a live process by its metrics, of a dead process by its files."""

import asyncio
import fcntl
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

ANSWER_SECONDS = 2.0
LOOK_SECONDS = 0.2
UNKNOWN = 1

_HELD = re.compile(r"^ackstream_spool_entries (\S+)$", re.MULTILINE)
_SPOOLED = re.compile(r"^ackstream_spooled_entries_total{\S+} (\S+)$", re.MULTILINE)


async def count_entries(admin_urls: Sequence[str], data: Path) -> int:
    """Count the spooled entries; a process without metrics counts as UNKNOWN."""
    matches = [_HELD.search(await _metrics(url)) for url in admin_urls]
    counted = sum(int(float(match.group(1))) if match else UNKNOWN for match in matches)
    return counted or sum(_left(folder) for folder in (data / "spool").glob("[0-9]*"))


@dataclass(slots=True)
class Meter:
    """The number of entries that went to the spools."""

    total: int = 0
    _before: dict[str, int] = field(default_factory=dict)

    async def read(self, admin_urls: Sequence[str]) -> None:
        """Add the entries since the last call; a lower count means that the process has restarted."""
        for url in admin_urls:
            if text := await _metrics(url):
                now, before = sum(int(float(count)) for count in _SPOOLED.findall(text)), self._before.get(url, 0)
                self.total += now - before if now >= before else now
                self._before[url] = now


@asynccontextmanager
async def open_meter(admin_urls: Sequence[str]) -> AsyncIterator[Meter]:
    """Count spooled entries during the block."""
    meter = Meter()
    await meter.read(admin_urls)
    meter.total = 0

    async def read() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await meter.read(admin_urls)

    reading = asyncio.create_task(read())
    try:
        yield meter
        await meter.read(admin_urls)
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


async def _metrics(admin_url: str) -> str:
    """Return the metrics; an empty text without an answer."""
    timeout = aiohttp.ClientTimeout(ANSWER_SECONDS)
    with suppress(aiohttp.ClientError, TimeoutError):
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(f"{admin_url}/metrics") as response:
            return await response.text()
    return ""


def _left(folder: Path) -> int:
    """Count the entries in the folder of a dead process; 0 for a locked folder."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return sum(_entries(path) for path in folder.glob("*.db"))
    except BlockingIOError:
        return 0
    finally:
        os.close(descriptor)


def _entries(path: Path) -> int:
    try:
        with closing(sqlite3.connect(path)) as connection:
            return int(connection.execute("SELECT last - confirmed FROM marks").fetchone()[0])
    except sqlite3.Error:
        return UNKNOWN
