"""The ids that were answered 200: a file, one id a line, fsynced by the checker."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

COMMIT_SECONDS = 0.05


class History:
    """Collects ids; `open_history` writes and fsyncs them in batches."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[str] = []

    def add(self, message_id: str) -> None:
        """Add the id of a message that was answered 200; an id may come several times."""
        self._waiting.append(message_id)

    def commit(self) -> None:
        """Write and fsync all added ids."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        with self._path.open("a") as file:
            file.writelines(f"{message_id}\n" for message_id in waiting)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> Iterator[str]:
        """Yield the ids in the file."""
        if self._path.exists():
            yield from self._path.read_text().split()


@asynccontextmanager
async def open_history(path: Path) -> AsyncIterator[History]:
    """Open a history that commits added ids during the block and at its end."""
    history = History(path)

    async def commit() -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            history.commit()

    task = asyncio.create_task(commit())
    try:
        yield history
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        history.commit()
