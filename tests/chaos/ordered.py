"""Order mode in a round: messages with several events, and a check of every call that a handler had."""

import asyncio
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import aiohttp

from console.queries.stats import gather_stats
from tests.chaos.cluster.cluster import Cluster
from tests.chaos.nemesis.schedule import Kind
from tests.support.handlers import ordered
from tests.support.order.checker import read_report
from tests.support.samples.events import body

GROUP = "ordered"
HANDLER = f"{GROUP}=ordered:handle#attempts=3&base=0.2&cap=1"
MESSAGES, EVENTS = 24, 8
ANSWER_SECONDS, AGAIN_SECONDS, DRAIN_SECONDS = 5.0, 0.5, 180.0
GOES_BACK = "destroy-group"
"""A group that is created again at its checkpoint handles settled events again, so the order goes back."""
STOP, STOP_SECONDS = "stop-worker", (1.0, 8.0)
"""Shorter than the lease: after a longer stop a call may overlap, which the worker counts."""


def prepare(folder: Path) -> None:
    """Put the handler where the workers find it."""
    shutil.copy(ordered.__file__, folder)


def select_kinds(kinds: Mapping[str, Kind]) -> Mapping[str, Kind]:
    """Return the kinds of faults under which order mode has to keep the order."""
    kept = {name: kind for name, kind in kinds.items() if name != GOES_BACK}
    return {name: replace(kind, seconds=STOP_SECONDS) if name == STOP else kind for name, kind in kept.items()}


async def send(cluster: Cluster, number: int, seconds: float) -> None:
    """Send all events of each message, one after the other, during about this time. A few messages have bad events."""
    rng = random.Random(f"order {number}")
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http, asyncio.TaskGroup() as tasks:
        for message in range(MESSAGES):
            name = f"{'bad' if message % 6 == 0 else 'ok'}-order-{number}-{message}"
            tasks.create_task(_send_message(http, cluster, name, 2 * seconds / EVENTS, rng))


async def find_faults(cluster: Cluster, folder: Path) -> list[str]:
    """Wait until the group is done; return the calls that broke the order, in words."""
    deadline, numbers = time.monotonic() + DRAIN_SECONDS, iter(range(10**9))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS)) as http:
        left = 1
        while left and time.monotonic() < deadline:
            # a success proves that the events that fail are at fault
            await _post(http, cluster.ingest_urls[0], body(message_uuid=f"good-{time.time()}-{next(numbers)}"))
            await asyncio.sleep(AGAIN_SECONDS)
            left = (await gather_stats(cluster.server, cluster.shards))["groups"][GROUP]["outstanding"]
    report = read_report(folder)
    return [*report.faults, *([f"{left} events of the group {GROUP} are left"] if left else [])]


async def _send_message(
    http: aiohttp.ClientSession, cluster: Cluster, name: str, longest: float, rng: random.Random
) -> None:
    for number in range(EVENTS):
        await asyncio.sleep(rng.uniform(0, longest))
        payload = body(message_uuid=name, client_ref=str(number))
        while not await _post(http, rng.choice(cluster.ingest_urls), payload):
            await asyncio.sleep(AGAIN_SECONDS)


async def _post(http: aiohttp.ClientSession, url: str, payload: bytes) -> bool:
    try:
        async with http.post(url, data=payload) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
