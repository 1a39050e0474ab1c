"""The judge's own note of what was answered 200: a file of ids, one a line, on the disk before anybody relies on it."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

COMMIT_SECONDS = 0.05


class Ledger:
    """Made by ``keeping``, which writes and fsyncs what was added, many ids at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[str] = []

    def add(self, message_id: str) -> None:
        """Note a 200; an id may come several times."""
        self._waiting.append(message_id)

    def commit(self) -> None:
        """Return when all that was added is on the disk."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        with self._path.open("a") as file:
            file.writelines(f"{message_id}\n" for message_id in waiting)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> Iterator[str]:
        """Yield what the file says."""
        if self._path.exists():
            yield from self._path.read_text().split()


@asynccontextmanager
async def keeping(path: Path) -> AsyncIterator[Ledger]:
    """Commit what is added for the length of the block, and at its end."""
    ledger = Ledger(path)

    async def commit() -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            ledger.commit()

    task = asyncio.create_task(commit())
    try:
        yield ledger
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        ledger.commit()
