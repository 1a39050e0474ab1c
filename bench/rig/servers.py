"""Ackstream's ingest, a process on the measured core, and Valkey on the core of the load."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from bench.rig import payloads
from bench.rig.processes import await_port, await_ready, environment, program, run_process
from console.up.valkey import find_free_port, run_server

REWRITE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers POSTs on a path."""

    port: int
    path: str
    pid: int
    admin_port: int = 0
    """Where Ackstream has its metrics."""


@contextmanager
def ackstream(valkey_url: str, core: int, folder: Path, *, signatures: str, **more: str) -> Iterator[Server]:
    """Run ``ackstream ingest`` with signatures ``off`` or ``required`` and ``more``, all else by default."""
    port, admin_port = find_free_port(), find_free_port()
    settings = {
        "signatures": signatures,
        "signature_secrets": f"{payloads.ACCOUNT}:{payloads.SECRET}",
        "redis_url": valkey_url,
        "port": str(port),
        "admin_port": str(admin_port),
        "data": str(folder / f"data-{signatures}"),
        **more,
    }
    command = program("ackstream"), "ingest"
    with run_process(*command, core=core, folder=folder, environment=environment(**settings)) as child:
        await_port(port, child)
        await_ready(admin_port)
        yield Server(port, "/webhooks/message-status", child.pid, admin_port)


@contextmanager
def valkey(folder: Path, fsync: str = "always") -> Iterator[tuple[str, Redis]]:
    """Run the Valkey of ``ackstream up``, on the core of this process, with an append-only file.

    It does not rewrite its file by itself, so that no measurement includes a rewrite.
    """
    with asyncio.Runner() as runner:
        running = run_server(folder)
        url = runner.run(running.__aenter__()).url
        try:
            client = Redis.from_url(url, protocol=2, socket_timeout=REWRITE_SECONDS)
            config = client.config_get("append*")
            assert (config["appendonly"], config["appendfsync"]) == ("yes", "always"), config
            client.config_set("auto-aof-rewrite-percentage", 0)
            client.config_set("appendfsync", fsync)
            yield url, client
            client.close()
        finally:
            runner.run(running.__aexit__(None, None, None))
