"""`ackstream up`: run all processes on loopback, with their data in one folder.

Valkey, ingest and worker are separate processes, as in production; `up` restarts one that dies. They stop when `up`
stops, after any signal except SIGKILL. After SIGKILL, ingest and worker stop because their standard input closes, and
Valkey keeps running until the next `up` on the folder adopts it.
"""

import asyncio
import os
import shlex
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import structlog
import typer

from console.settings_report import report_settings
from console.up import valkey
from ingest.settings import IngestSettings
from runtime import run_file
from runtime.errors import CommandError
from runtime.escape import escape_unprintable
from runtime.run_file import Addresses, lock_folder
from runtime.tasks import Backoff
from stream.settings import child_environment
from worker.store.migrate import migrate_at

log = structlog.get_logger("up")

LOOPBACK = "127.0.0.1"
GRACE_SECONDS = 3.0
KILL_AFTER_SECONDS = 0.5  # more than the grace

OVERRIDDEN = {
    "redis_url": "`up` uses its own Valkey; for another server run `ackstream ingest` and `ackstream worker`",
    "database_url": "`up` uses SQLite in the data folder; for another database run `ackstream worker`",
    "host": f"`up` listens on {LOOPBACK} only; for other addresses run `ackstream ingest`",
    "admin_host": f"`up` listens on {LOOPBACK} only; for other addresses run `ackstream ingest`",
}
"""Settings without effect in `up`, with advice for the user."""

SIGNATURES = {
    "off": "off: any client that reaches the port can send statuses; see docs/going-live.md",
    "observe": "observed: unsigned and forged webhooks are counted and still accepted",
    "required": "required",
}

BANNER = """
  Ackstream is up. Stop it with Ctrl-C; the next start continues with the same data.

    webhooks    {ingest}   (every format on every path)
    metrics     {admin}/metrics
    data        {data}
    signatures  {signatures}

  Try it:  curl -d '{{"message_uuid":"m-1","status":"delivered","channel":"sms"}}' {ingest}
           {command} trace m-1{option}
           {command} simulate{option}
"""


@dataclass(frozen=True, slots=True)
class ManagedProcess:
    """One process that ``up`` keeps running: `ackstream <arguments>`, ready when /ready on its admin port is 200."""

    arguments: tuple[str, ...]
    admin_url: str

    @property
    def name(self) -> str:
        """The subcommand."""
        return self.arguments[0]


async def up(settings: IngestSettings, stop: asyncio.Event) -> None:
    """Run until ``stop``. Raises FolderInUse, or CommandError if a process cannot be started."""
    set_names = settings.model_fields_set
    signatures = settings.signatures if "signatures" in set_names else "off"
    settings = settings.model_copy(update={"signatures": signatures})
    settings.verifier  # noqa: B018 - raises the errors of ingest before any process starts
    grace_seconds = settings.grace_seconds if "grace_seconds" in set_names else GRACE_SECONDS
    os.umask(0o077)  # all files created from here on hold payloads or passwords
    data = settings.data.resolve()
    lock_folder(data)
    report_settings(settings, OVERRIDDEN)
    ports = settings.port or valkey.find_free_port(), settings.admin_port or valkey.find_free_port()
    for port in ports:
        await _wait_for_port(port)
    try:
        async with valkey.run_server(data / "valkey") as server:
            database_url = f"sqlite:///{_create_private(data / 'ackstream.db')}"
            await migrate_at(database_url)
            processes, addresses = _plan_processes(data, settings.routes[0], ports, server.url, database_url)
            environment = child_environment(
                redis_url=server.url,
                database_url=database_url,
                signatures=settings.signatures,
                grace_seconds=str(grace_seconds),
                log_format=settings.log_format,
            )
            addresses.write(data)
            async with asyncio.TaskGroup() as tasks:
                for process in processes:
                    tasks.create_task(_keep_running(process, environment, stop, grace_seconds + KILL_AFTER_SECONDS))
                if await _wait_until_ready(processes, stop) and settings.log_format == "text":
                    typer.echo(_banner(settings, addresses, data))
    finally:
        run_file.remove(data)


def _create_private(file: Path) -> Path:
    """Create SQLite's file readable by its owner only, also restrict its -wal and -shm files, and return it."""
    file.touch(mode=0o600)
    for path in file.parent.glob(f"{file.name}*"):  # SQLite gives the other files the mode of the first
        path.chmod(0o600)
    return file


def _banner(settings: IngestSettings, addresses: Addresses, data: Path) -> str:
    by_default = settings.data == IngestSettings.model_fields["data"].default
    return BANNER.format(
        ingest=addresses.ingest_url,
        admin=addresses.ingest_admin_url,
        data=escape_unprintable(str(data)),
        signatures=SIGNATURES[settings.signatures],
        command=sys.argv[0] if sys.argv[0].endswith("ackstream") else "ackstream",
        option="" if by_default else f" --data {escape_unprintable(shlex.quote(str(settings.data)))}",
    )


async def _wait_for_port(port: int) -> None:
    """Raise CommandError if the port is still taken after the time that processes of a killed run need to stop."""
    deadline = time.monotonic() + GRACE_SECONDS + KILL_AFTER_SECONDS
    while (reason := _bind_error(port)) is not None:
        if time.monotonic() > deadline:
            raise CommandError(
                f"cannot listen on {LOOPBACK}:{port} ({reason}): stop the process that listens there, or give another "
                "--port or --admin-port"
            )
        await asyncio.sleep(0.1)


def _bind_error(port: int) -> str | None:
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError as exc:
        return os.strerror(exc.errno or 0)
    return None


def _plan_processes(
    data: Path, path: str, ports: tuple[int, int], redis_url: str, database_url: str
) -> tuple[list[ManagedProcess], Addresses]:
    (port, admin_port), worker_port = ports, valkey.find_free_port()
    admin_url, worker_url = f"http://{LOOPBACK}:{admin_port}", f"http://{LOOPBACK}:{worker_port}"
    local = ("--data", str(data), "--admin-host", LOOPBACK)
    listening = ("--host", LOOPBACK, "--port", str(port), "--admin-port", str(admin_port))
    processes = [
        ManagedProcess(("ingest", *local, *listening, "--stop-with-stdin"), admin_url),
        ManagedProcess(("worker", *local, "--admin-port", str(worker_port), "--stop-with-stdin"), worker_url),
    ]
    ingest_url = f"http://{LOOPBACK}:{port}{path}"
    return processes, Addresses(redis_url, database_url, ingest_url, admin_url, worker_url)


async def _keep_running(
    process: ManagedProcess, environment: dict[str, str], stop: asyncio.Event, kill_after_seconds: float
) -> None:
    backoff = Backoff(first=0.5)
    was_ready = False
    while not stop.is_set():
        child = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-P",
                "-m",
                "console",
                *process.arguments,
            ),  # -P: files of the working folder must not shadow libraries
            stdin=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches only this process, which stops the others in order
        )
        try:
            was_ready = await _wait_for_exit(child, process, stop) or was_ready
        finally:
            await _terminate(child, kill_after_seconds)
        if stop.is_set():
            return
        if not was_ready:
            raise CommandError(f"{process.name} failed to start; see its output above")
        log.error("up.process_died", process=process.name, code=child.returncode, what="restarting it")
        await backoff.wait(stop)


async def _wait_for_exit(child: asyncio.subprocess.Process, process: ManagedProcess, stop: asyncio.Event) -> bool:
    """Wait until the child has ended or ``stop`` is set; return whether it was ready by then."""
    ended = asyncio.create_task(child.wait())
    stopped = asyncio.create_task(stop.wait())
    ready = asyncio.create_task(_wait_until_ready([process], stop))
    await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
    for task in (ended, stopped, ready):
        task.cancel()
    return ready.done() and not ready.cancelled() and ready.result()


async def _wait_until_ready(processes: list[ManagedProcess], stop: asyncio.Event) -> bool:
    """Wait until all processes are ready; return False if ``stop`` is set first."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as http:
        for process in processes:
            while not await _is_ready(http, f"{process.admin_url}/ready"):
                if stop.is_set():
                    return False
                await asyncio.sleep(0.05)
    return True


async def _is_ready(http: aiohttp.ClientSession, url: str) -> bool:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with http.get(url) as response:
            return response.ok
    return False


async def _terminate(child: asyncio.subprocess.Process, kill_after_seconds: float) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(kill_after_seconds):
                await child.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
