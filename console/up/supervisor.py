"""`ackstream up`: run all processes on loopback, with their data in one folder.

Valkey, ingest, worker and console are separate processes, as in production; `up` restarts one that dies. They stop when
`up` stops, after any signal except SIGKILL. After SIGKILL, they stop because their standard input closes, and Valkey
keeps running until the next `up` on the folder adopts it.
"""

import asyncio
import os
import socket
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import typer

from console.settings_report import report_settings
from console.up import valkey
from console.up.banner import write_banner
from console.up.demo_traffic import Traffic
from console.up.processes import ManagedProcess, keep_running, wait_until_ready
from console.web.access.links import create_link
from console.web.access.users import UserFile
from console.web.settings import ConsoleSettings
from ingest.settings import IngestSettings
from runtime import run_file
from runtime.errors import CommandError
from runtime.process import CHILDREN_SECONDS
from runtime.run_file import Addresses, lock_folder
from stream.settings import child_environment
from worker.store.migrate import migrate_at

LOOPBACK = "127.0.0.1"
GRACE_SECONDS = 3.0
KILL_AFTER_SECONDS = 0.5  # more than the grace

OVERRIDDEN = {
    "redis_url": "`up` uses its own Valkey; for another server run `ackstream ingest` and `ackstream worker`",
    "database_url": "`up` uses SQLite in the data folder; for another database run `ackstream worker`",
    "host": f"`up` listens on {LOOPBACK} only; for other addresses run `ackstream ingest`",
    "admin_host": f"`up` listens on {LOOPBACK} only; for other addresses run `ackstream ingest`",
    "console_host": f"`up` listens on {LOOPBACK} only; for other addresses run `ackstream console`",
    "console_scrape": "the console of `up` asks its own processes; for others run `ackstream console`",
}
"""Settings without effect in `up`, with advice for the user."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the processes, all on loopback."""

    ingest: int
    ingest_admin: int
    worker_admin: int
    console: int
    console_admin: int


async def up(
    settings: IngestSettings, console_settings: ConsoleSettings, stop: asyncio.Event, traffic: Traffic | None = None
) -> None:
    """Run until ``stop``, with the handlers and the traffic of the demo if there is one.

    Raises FolderInUse, or CommandError if a process cannot be started.
    """
    set_names = settings.model_fields_set
    signatures = settings.signatures if "signatures" in set_names else "off"
    settings = settings.model_copy(update={"signatures": signatures})
    settings.verifier  # noqa: B018 - raises the errors of ingest before any process starts
    grace_seconds = settings.grace_seconds if "grace_seconds" in set_names else GRACE_SECONDS
    kill_after = grace_seconds + (KILL_AFTER_SECONDS if settings.processes == 1 else CHILDREN_SECONDS)
    os.umask(0o077)  # all files created from here on hold payloads or passwords
    data = settings.data.resolve()
    lock_folder(data)
    report_settings(settings, OVERRIDDEN)
    ports = await _choose_ports(settings, console_settings)
    try:
        async with valkey.run_server(data / "valkey") as server:
            database_url = f"sqlite:///{_create_private(data / 'ackstream.db')}"
            await migrate_at(database_url, partial(typer.echo, err=True))
            processes, addresses = _plan_processes(data, settings.routes[0], ports, server.url, database_url)
            environment = child_environment(
                redis_url=server.url,
                database_url=database_url,
                signatures=settings.signatures,
                grace_seconds=str(grace_seconds),
                log_format=settings.log_format,
                **(traffic.process_settings if traffic else {}),
            )
            addresses.write(data)
            async with asyncio.TaskGroup() as tasks:
                for process in processes:
                    tasks.create_task(keep_running(process, environment, stop, kill_after))
                if not await wait_until_ready(processes, stop):
                    return
                if settings.log_format == "text":
                    console = await _find_entrance(console_settings, addresses)
                    typer.echo(write_banner(settings, addresses, console, is_demo=traffic is not None))
                if traffic:
                    await traffic.send(addresses.ingest_url, stop)
    finally:
        run_file.remove(data)


async def _find_entrance(settings: ConsoleSettings, addresses: Addresses) -> str:
    """Return a sign-in link if the console has no users, else its URL."""
    if UserFile(settings.users_file).users():
        return addresses.console_url
    return await create_link(settings.console_database, addresses.console_url)


def _create_private(file: Path) -> Path:
    """Create SQLite's file readable by its owner only, also restrict its -wal and -shm files, and return it."""
    file.touch(mode=0o600)
    for path in file.parent.glob(f"{file.name}*"):  # SQLite gives the other files the mode of the first
        path.chmod(0o600)
    return file


async def _choose_ports(settings: IngestSettings, console_settings: ConsoleSettings) -> Ports:
    """Return the ports. A default port of the console that is taken is replaced by a free one.

    Raises CommandError for another port that is taken.
    """
    find = valkey.find_free_port
    ports = Ports(settings.port or find(), settings.admin_port or find(), find(), console_settings.console_port, find())
    by_default = "console_port" not in console_settings.model_fields_set
    if not ports.console or (by_default and _bind_error(ports.console) is not None):
        ports = replace(ports, console=find())
    for port in (ports.ingest, ports.ingest_admin, ports.console):
        await _wait_for_port(port)
    return ports


async def _wait_for_port(port: int) -> None:
    """Raise CommandError if the port is still taken after the time that processes of a killed run need to stop."""
    deadline = time.monotonic() + GRACE_SECONDS + KILL_AFTER_SECONDS
    while (reason := _bind_error(port)) is not None:
        if time.monotonic() > deadline:
            raise CommandError(
                f"cannot listen on {LOOPBACK}:{port} ({reason}): stop the process that listens there, or give another "
                "--port, --admin-port or --console-port"
            )
        await asyncio.sleep(0.1)


def _bind_error(port: int) -> str | None:
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError as exc:
        return os.strerror(exc.errno or 0)
    return None


def _plan_processes(
    data: Path, path: str, ports: Ports, redis_url: str, database_url: str
) -> tuple[list[ManagedProcess], Addresses]:
    ingest, worker, console = (
        f"http://{LOOPBACK}:{port}" for port in (ports.ingest_admin, ports.worker_admin, ports.console_admin)
    )
    local = ("--data", str(data), "--admin-host", LOOPBACK, "--stop-with-stdin")
    processes = [
        ManagedProcess(("ingest", *local, *_listen(ports.ingest, ports.ingest_admin)), ingest),
        ManagedProcess(("worker", *local, "--admin-port", str(ports.worker_admin)), worker),
        ManagedProcess(("console", *local, *_listen(ports.console, ports.console_admin)), console),
    ]
    url, console_url = f"http://{LOOPBACK}:{ports.ingest}{path}", f"http://{LOOPBACK}:{ports.console}"
    return processes, Addresses(redis_url, database_url, url, ingest, worker, console_url)


def _listen(port: int, admin_port: int) -> tuple[str, ...]:
    return ("--host", LOOPBACK, "--port", str(port), "--admin-port", str(admin_port))
