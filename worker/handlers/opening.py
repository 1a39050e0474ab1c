"""From the names in ``ACKSTREAM_HANDLERS`` to handlers that are ready to work."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from worker.database import await_revision, open_engine
from worker.handlers.log import Log
from worker.processor import Handler
from worker.settings import WorkerSettings
from worker.store import Store


@asynccontextmanager
async def opened(settings: WorkerSettings, stop: asyncio.Event) -> AsyncIterator[Mapping[str, Handler]]:
    """Yield the handlers by their group's name, when what they need is there. Raises SchemaMismatch."""
    async with AsyncExitStack() as stack:
        handlers: dict[str, Handler] = {}
        for name in settings.handler_names:
            if name == "log":
                handlers[name] = Log(reveal=settings.log_reveal)
            else:
                await await_revision(settings.database_url, stop)
                engine = open_engine(settings.database_url)
                stack.push_async_callback(engine.dispose)
                handlers[name] = Store(engine)
        yield handlers
