"""Run the HTTP servers that ingest is compared with, each a process on the measured core."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.baselines import aiohttp_server, fastapi_quickstart, null_server
from bench.rig.processes import HOST, await_port, environment, program, run_process
from bench.rig.servers import Server
from console.up.valkey import find_free_port


@contextmanager
def aiohttp(core: int, folder: Path) -> Iterator[Server]:
    """Run aiohttp with nothing behind it."""
    with _run_server(sys.executable, "-m", aiohttp_server.__name__, core=core, folder=folder) as (port, pid):
        yield Server(port, aiohttp_server.PATH, pid)


@contextmanager
def null(core: int, folder: Path) -> Iterator[Server]:
    """Run the server that only answers."""
    with _run_server(sys.executable, "-m", null_server.__name__, core=core, folder=folder) as (port, pid):
        yield Server(port, null_server.PATH, pid)


@contextmanager
def fastapi(core: int, folder: Path) -> Iterator[Server]:
    """Run Vonage's FastAPI quickstart."""
    command = program("uvicorn"), f"{fastapi_quickstart.__name__}:app", "--host", HOST, "--port"
    with _run_server(*command, core=core, folder=folder) as (port, pid):
        yield Server(port, fastapi_quickstart.PATH, pid)


@contextmanager
def _run_server(*command: str, core: int, folder: Path) -> Iterator[tuple[int, int]]:
    port = find_free_port()
    with run_process(*command, str(port), core=core, folder=folder, environment=environment()) as child:
        await_port(port, child)
        yield port, child.pid
