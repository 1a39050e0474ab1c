"""Flood ingest with forged webhooks and junk, and check that a quarantined genuine webhook stays.

``python -m bench.scenarios.flood`` puts one webhook into quarantine whose secret ingest does not have yet. For ten
seconds it then sends well-formed tokens that name the configured account, and junk. It prints the rate and the
processor time of ingest for each request, and fails unless ``ackstream quarantine accept --all`` appends the genuine
webhook and nothing else.
"""

import asyncio
import logging
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog
import uvloop
from redis import Redis

from bench.rig import servers
from bench.rig.payloads import ACCOUNT, bearer, payloads
from bench.rig.processes import HOST, Cores, cpu_seconds, environment, program
from bench.rig.servers import Server
from stream.keys import Shard

RATE = 5000
SECONDS = 10
VARIATIONS = 5000
CONNECTIONS = 64
WAIT_SECONDS = 10.0
LATE_SECRET, WRONG_SECRET = "the secret that ingest gets later", "a guess"
JUNK = ("Bearer x", "Bearer a.b.c", "Bearer " + "x" * 1000, "Bearer ey" + "J" * 400)


def request(path: str, payload: bytes, authorization: str) -> bytes:
    """Return one POST."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


def forge(path: str) -> list[bytes]:
    """Return requests that ingest refuses, two of three with a well-formed token."""
    return [
        request(path, payload, JUNK[number % len(JUNK)] if number % 3 == 0 else bearer(payload, WRONG_SECRET))
        for number, payload in enumerate(payloads(VARIATIONS))
    ]


async def flood(server: Server, requests: list[bytes]) -> tuple[float, float, float]:
    """Send the requests in turn at RATE.

    Return the rate that was reached, and the CPU microseconds a request of ingest and of this load generator.
    """
    loop = asyncio.get_running_loop()

    async def send(first: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        for number in range(first, RATE * SECONDS, CONNECTIONS):
            await asyncio.sleep(max(0.0, started + number / RATE - loop.time()))
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 "), head
        writer.close()

    started, cpu, load_cpu = loop.time(), cpu_seconds(server.pid), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for first in range(CONNECTIONS):
            tasks.create_task(send(first))
    took, cpu, load_cpu = loop.time() - started, cpu_seconds(server.pid) - cpu, time.process_time() - load_cpu
    number = RATE * SECONDS
    return number / took, cpu / number * 1e6, load_cpu / number * 1e6


async def quarantine(server: Server, payload: bytes, valkey: Redis) -> None:
    """Send the genuine webhook, and return when it is in quarantine."""
    reader, writer = await asyncio.open_connection(HOST, server.port)
    writer.write(request(server.path, payload, bearer(payload, LATE_SECRET)))
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    deadline = time.monotonic() + WAIT_SECONDS
    while not valkey.xlen(Shard().quarantine):
        assert time.monotonic() < deadline, "the genuine webhook did not come into quarantine"
        await asyncio.sleep(0.02)


def accept(valkey_url: str, folder: Path) -> None:
    """Run ``ackstream quarantine accept --all`` with the secret of the genuine webhook."""
    settings = environment(redis_url=valkey_url, signature_secrets=f"{ACCOUNT}:{LATE_SECRET}")
    command = program("ackstream"), "quarantine", "accept", "--all"
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, env=settings)


def main() -> None:
    """Run the flood and print the result."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.rest})
    genuine = b'{"message_uuid":"genuine","status":"delivered"}'
    with tempfile.TemporaryDirectory(prefix="ackstream-bench-") as name:
        folder = Path(name)
        with (
            servers.valkey(folder / "valkey") as (url, valkey),
            servers.ackstream(url, cores.measured, folder, signatures="required") as server,
        ):
            uvloop.run(quarantine(server, genuine, valkey))
            rate, ingest_us, load_us = uvloop.run(flood(server, forge(server.path)))
            copies = valkey.xlen(Shard().quarantine)
            accept(url, folder)
            entries: Any = valkey.xrange(Shard().stream)
    assert [fields[b"payload"] for _, fields in entries] == [genuine], f"{len(entries)} webhooks were accepted"
    print(
        f"{RATE * SECONDS:,} refused at {rate:,.0f}/s; {copies} were in quarantine. CPU a request: "
        f"ingest {ingest_us:.0f} us, load generator {load_us:.0f} us"
    )


if __name__ == "__main__":
    main()
