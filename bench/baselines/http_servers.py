"""Run the HTTP servers that ingest is compared with, each a process on the measured core."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.baselines import aiohttp_server, null_server
from bench.rig.payloads import ACCOUNT, SECRET
from bench.rig.processes import HOST, await_port, environment, program, run_process
from bench.rig.servers import Server
from console.up.valkey import find_free_port

FOLDER = Path(__file__).parent
PATH = "/webhooks/message-status"
GO_STREAM = "go_webhook"


def has_node() -> bool:
    """Whether Node.js is installed."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def has_go() -> bool:
    """Whether Go is installed."""
    return shutil.which("go") is not None


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
    command = program("uvicorn"), "bench.baselines.fastapi_quickstart:app", "--host", HOST, "--port"
    with _run_server(*command, core=core, folder=folder) as (port, pid):
        yield Server(port, PATH, pid)


@contextmanager
def express(core: int, folder: Path) -> Iterator[Server]:
    """Run the Express quickstart, after npm has installed its packages."""
    copy = folder / "express_quickstart"
    shutil.copytree(FOLDER / copy.name, copy)
    subprocess.run(["npm", "ci", "--silent"], check=True, cwd=copy)  # noqa: S607 - of the developer
    with _run_server("node", str(copy / "quickstart.js"), core=core, folder=folder) as (port, pid):
        yield Server(port, PATH, pid)


@contextmanager
def go(core: int, folder: Path, valkey_url: str) -> Iterator[Server]:
    """Build and run the server in Go, which checks signatures and appends to GO_STREAM. Go uses one core too."""
    binary = folder / "go_webhook"
    subprocess.run(["go", "build", "-o", binary, "."], check=True, cwd=FOLDER / binary.name)  # noqa: S607 - as above
    with _run_server(str(binary), valkey_url, ACCOUNT, SECRET, core=core, folder=folder) as (port, pid):
        yield Server(port, PATH, pid)


@contextmanager
def _run_server(*command: str, core: int, folder: Path) -> Iterator[tuple[int, int]]:
    port = find_free_port()
    with run_process(*command, str(port), core=core, folder=folder, environment=environment()) as child:
        await_port(port, child)
        yield port, child.pid
