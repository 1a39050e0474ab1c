"""A handler that takes a few milliseconds and writes the event and the time to a file of its process."""

import asyncio
import os
import time
from pathlib import Path

from worker import StatusEvent

SECONDS = 0.005

_notes: list[int] = []


async def note(event: StatusEvent) -> None:
    """Write a line when the event is handled."""
    await asyncio.sleep(SECONDS)
    if not _notes:
        _notes.append(os.open(Path(f"notes-{os.getpid()}.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    os.write(_notes[0], f"{event.event_id} {time.monotonic()}\n".encode())
