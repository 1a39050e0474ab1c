"""Order mode on a Redis Cluster, with real processes."""

import asyncio
import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from console.queries.stats import gather_stats
from ingest.append.shard_turns import choose_shard
from ingest.metrics import SPOOLED
from stream.keys import Shard
from stream.redis.client import client
from tests.support.faults.redis_outages import read_metric
from tests.support.handlers import ordered
from tests.support.in_process import run_ingest
from tests.support.order.checker import read_report
from tests.support.processes import Process, quick_worker
from tests.support.samples.events import body
from tests.support.servers.clusters import Member, RedisCluster, open_disk, run_cluster
from tests.support.waiting import until

# Read at import, because a test sees no setting of the machine.
WEBHOOKS = int(os.environ.get("ACKSTREAM_CLUSTER_WEBHOOKS", "50"))
SHARDS, WORKERS, MESSAGES, BAD_EVENTS = 4, 3, 8, 6
MOVING, FAILING = 2, 3
GROUP = "g"
HANDLER = f"{GROUP}=ordered:handle#concurrency=4&attempts=3&base=0.1&cap=0.1"
SECONDS, PAUSE_SECONDS = 180.0 + WEBHOOKS / 10, 0.15
LONG_MS = 10_000
LARGE, SPOOL_BYTES = "x" * 200_000, 2**20

Sent = tuple[str, int]
"""A message, and the number of its event."""


@dataclass(slots=True)
class OrderedSystem:
    """A cluster, an ingest process and workers in order mode."""

    cluster: RedisCluster
    server: Redis
    shards: Sequence[Shard]
    folder: Path
    url: str
    running: ExitStack
    workers: list[Process]
    accepted: list[Sent] = field(default_factory=list)

    def slot(self, number: int) -> int:
        return key_slot(self.shards[number].stream.encode())

    async def post(self, http: aiohttp.ClientSession, message: str, number: int, **more: Any) -> int:
        """Send an event; return the status of the answer."""
        payload = body(message_uuid=message, client_ref=str(number), **more)
        async with http.post(self.url, data=payload) as answer:
            if answer.status == 200:
                self.accepted.append((message, number))
            return answer.status

    async def read_entries(self, numbers: Collection[int] = range(SHARDS)) -> dict[Sent, list[tuple[int, str]]]:
        """Return the shard and the id of the entries of each event on these shards."""
        places: dict[Sent, list[tuple[int, str]]] = {}
        for shard in map(self.shards.__getitem__, numbers):
            for entry_id, sent in await read_stream(self.server, shard):
                places.setdefault(sent, []).append((shard.number, entry_id))
        return places

    async def is_settled(self) -> bool:
        """Whether the spool is empty, and the group has nothing left."""
        try:
            stats = (await gather_stats(self.server, self.shards))["groups"][GROUP]
        except RedisError:  # a node that has just started
            return False
        return not read_metric("spool_entries") and not stats["outstanding"]


async def read_stream(server: Redis, shard: Shard) -> list[tuple[str, Sent]]:
    """Return the entries of a shard with their messages and numbers."""
    entries: Any = await server.xrange(shard.stream)
    payloads = [(entry_id.decode(), orjson.loads(fields[b"payload"])) for entry_id, fields in entries]
    return [(entry_id, (status["message_uuid"], int(status["client_ref"]))) for entry_id, status in payloads]


@asynccontextmanager
async def run_system(
    cluster: RedisCluster, shard: Shard, folder: Path, workers: int, **more: Any
) -> AsyncIterator[OrderedSystem]:
    """Run the workers, and ingest, until the block ends."""
    shutil.copy(ordered.__file__, folder)
    common: dict[str, Any] = {"redis_url": cluster.url, "stream": shard.name, "order": "message"}
    async with client(cluster.url) as server:
        await server.set(shard.layout, f"{SHARDS} {SHARDS} 0")  # long ago, so repeats are on the shard of the event
        with ExitStack() as running:
            started = [running.enter_context(quick_worker(1, HANDLER, folder, common)) for _ in range(workers)]
            more = {"ack_budget_ms": LONG_MS, **more}  # no append to a node that is there goes to the spool
            async with run_ingest(**common, data=folder, **more) as ingest:
                shards = [Shard(shard.name, number) for number in range(SHARDS)]
                yield OrderedSystem(cluster, server, shards, folder, ingest.url, running, started)


@asynccontextmanager
async def open_http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as http:
        yield http


class OrderedLoad:
    """Messages whose events are sent one after the other, each once the one before is answered with 200."""

    def __init__(self, system: OrderedSystem) -> None:
        self._system = system
        self._enough = asyncio.Event()

    async def run(self) -> None:
        """Send until ``end``. Two messages have events that fail once."""
        async with open_http() as http, asyncio.TaskGroup() as tasks:
            for message in range(MESSAGES):
                tasks.create_task(self._send(http, f"{'bad' if message < 2 else 'ok'}-{message}"))

    async def _send(self, http: aiohttp.ClientSession, message: str) -> None:
        number = 0
        while not self._enough.is_set() and not (message.startswith("bad") and number == BAD_EVENTS):
            number += await self._system.post(http, message, number) == 200
            await asyncio.sleep(PAUSE_SECONDS)

    async def keeps(self, count: int) -> None:
        """Return when this number of further events were accepted."""
        target = len(self._system.accepted) + count

        async def has_enough() -> bool:
            return len(self._system.accepted) >= target

        await until(has_enough, seconds=SECONDS)

    def end(self) -> None:
        self._enough.set()


async def read_settled(server: Redis, shards: Sequence[Shard]) -> set[str]:
    """Return the entries of these shards that the group has settled."""
    settled: set[str] = set()
    for shard in shards:
        if groups := (await server.xinfo_groups(shard.stream) if await server.exists(shard.stream) else []):
            delivered: Any = await server.xrange(shard.stream, "-", groups[0]["last-delivered-id"])
            pending: Any = await server.xpending_range(shard.stream, GROUP, "-", "+", 10_000)
            ids = {entry_id for entry_id, _ in delivered} - {entry["message_id"] for entry in pending}
            settled |= {f"{shard.number}/{entry_id.decode()}" for entry_id in ids}
    return settled


def name_entries(entries: Sequence[tuple[int, str]]) -> set[str]:
    """Return entries as the handler names them."""
    return {f"{number}/{entry_id}" for number, entry_id in entries}


def find_late(places: Mapping[Sent, Sequence[tuple[int, str]]]) -> list[int]:
    """Return the shard of each event whose first entry follows that of a later event of its message."""
    late: list[int] = []
    for message in {message for message, _ in places}:
        firsts = [places[sent][0] for sent in sorted(places) if sent[0] == message]
        times = [tuple(map(int, entry_id.split("-"))) for _, entry_id in firsts]
        late += [firsts[place][0] for place, time in enumerate(times) if time > min(times[place:])]
    return late


def find_scattered(places: Mapping[Sent, Sequence[tuple[int, str]]]) -> Collection[str]:
    """Return the messages that have entries on another shard than theirs."""
    return {
        message
        for (message, _), entries in places.items()
        for number, _ in entries
        if number != choose_shard(body(message_uuid=message), SHARDS)
    }


def count_spooled() -> float:
    """Count the entries that this process's ingest has ever spooled, for any reason."""
    [metric] = SPOOLED.collect()
    return sum(sample.value for sample in metric.samples if sample.name.endswith("_total"))


async def fail_over(system: OrderedSystem, load: OrderedLoad) -> Member:
    """Kill the node that has the failing shard; return it once its replica has the slot."""
    old = await system.cluster.find_owner(system.slot(FAILING))
    old.node.kill()
    await system.cluster.is_replaced(system.slot(FAILING), old)
    await load.keeps(WEBHOOKS)
    return old


async def test_each_message_keeps_its_order_while_a_slot_moves_and_a_primary_fails(
    shard: Shard, tmp_path: Path
) -> None:
    """No event overtakes another of its message, except by the spool; a fail-over loses what only the old node had."""
    (tmp_path / "nodes").mkdir()
    async with run_cluster(tmp_path / "nodes") as cluster, run_system(cluster, shard, tmp_path, WORKERS) as system:
        load, spooled = OrderedLoad(system), count_spooled()
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            await load.keeps(WEBHOOKS)
            owner = await cluster.find_owner(system.slot(MOVING))
            others = [member for member in cluster.members[:3] if member is not owner]
            await cluster.move_slot(system.slot(MOVING), others[0])
            system.workers[0].child.send_signal(signal.SIGTERM)
            await load.keeps(WEBHOOKS)
            epoch = await cluster.find_epoch()
            old = await fail_over(system, load)
            load.end()
        await until(system.is_settled, seconds=SECONDS)
        places = await system.read_entries()
        owned = (await gather_stats(system.server, system.shards))["groups"][GROUP]["owners"]
        is_single = await cluster.find_epoch() == epoch + 1  # a machine that stalls may start further fail-overs
        async with open_disk(old, cluster, tmp_path / "disk") as disk:
            on_disk = {sent for each in system.shards for _, sent in await read_stream(disk, each)}
            unsettled = await read_settled(disk, system.shards)
    report = read_report(tmp_path, unsettled)
    gone = set(system.accepted) - places.keys()
    spooled = count_spooled() - spooled
    print(f"{len(system.accepted)} accepted, {len(gone)} lost, {spooled} spooled, {report.forgiven} came again")  # noqa: T201 - shown with pytest -s

    assert find_scattered(places) == set()
    assert [sent for sent, entries in places.items() if not report.tried & name_entries(entries)] == []
    assert [owner["shard"] for owner in owned] == list(range(SHARDS))
    if is_single:
        assert report.faults == []
        assert report.forgiven <= MESSAGES
        assert gone <= on_disk
        assert len(late := find_late(places)) <= spooled
        assert set(late) <= {MOVING, FAILING}


async def test_a_node_that_is_away_stops_only_its_messages(shard: Shard, tmp_path: Path) -> None:
    """Its webhooks go to the spool, or are refused if that is full, and reach their shard later; the others go on."""
    (tmp_path / "nodes").mkdir()
    names: dict[int, str] = {}
    numbers = itertools.count(2)
    while len(names) < SHARDS:
        name = f"ok-{os.urandom(4).hex()}"
        names.setdefault(choose_shard(body(message_uuid=name), SHARDS), name)
    async with (
        run_cluster(tmp_path / "nodes", replicas=False) as cluster,
        run_system(cluster, shard, tmp_path, 1, spool_bytes=SPOOL_BYTES, max_body=SPOOL_BYTES) as system,
        open_http() as http,
    ):

        async def are_handled(numbers: Collection[int], event: int) -> bool:
            places, handled = await system.read_entries(numbers), read_report(tmp_path).handled
            sent = [places.get((names[number], event), ()) for number in numbers]
            return all(handled & name_entries(entries) for entries in sent)

        assert [await system.post(http, names[number], 0) for number in range(SHARDS)] == [200] * SHARDS
        await until(lambda: are_handled(range(SHARDS), 0), seconds=SECONDS)
        lost = await cluster.find_owner(system.slot(1))
        lost.node.kill()
        away = [number for number in range(SHARDS) if await cluster.find_owner(system.slot(number)) is lost]
        there = [number for number in range(SHARDS) if number not in away]
        assert [await system.post(http, names[number], 1) for number in range(SHARDS)] == [200] * SHARDS
        assert read_metric("spool_entries") == len(away)
        await until(lambda: are_handled(there, 1), seconds=SECONDS)

        async def is_refused() -> bool:
            return await system.post(http, names[1], next(numbers), padding=LARGE) == 503

        await until(is_refused)
        last = next(numbers)
        assert [await system.post(http, names[number], last, padding=LARGE) for number in there] == [200] * len(there)
        await until(lambda: are_handled(there, last), seconds=SECONDS)
        await lost.node.start()
        await until(system.is_settled, seconds=SECONDS)
        places = await system.read_entries()
    report = read_report(tmp_path)

    assert 0 not in away
    assert set(system.accepted) <= places.keys()
    assert find_scattered(places) == set()
    assert report.faults == []
    assert [sent for sent, entries in places.items() if not report.handled & name_entries(entries)] == []
