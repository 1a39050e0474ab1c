"""Order mode on a Redis Cluster, with real processes."""

import asyncio
import itertools
import os
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.queries.stats import gather_stats
from ingest.metrics import SPOOLED
from stream.keys import Shard
from tests.support.faults.processes import freeze
from tests.support.faults.redis_outages import read_metric
from tests.support.handlers.ordered import ALWAYS
from tests.support.order.checker import read_report
from tests.support.order.ordered_system import (
    GROUP,
    LONG_MS,
    SHARDS,
    OrderedSystem,
    Sent,
    choose_messages,
    find_scattered,
    name_entries,
    open_http,
    read_stream,
    run_system,
)
from tests.support.processes import becomes
from tests.support.servers.clusters import open_disk, run_cluster
from tests.support.waiting import until

# Read at import, because a test sees no setting of the machine.
WEBHOOKS = int(os.environ.get("ACKSTREAM_CLUSTER_WEBHOOKS", "50"))
WORKERS, MESSAGES, BAD_EVENTS = 3, 8, 6
MOVING, FAILING = 2, 3
FAIL_OVERS = [("killed", LONG_MS)] if WEBHOOKS < 1000 else [("killed", LONG_MS), ("frozen", 2000)]
"""The fault of a primary, and the time after which the spool gets an entry that it does not confirm."""
FAILING_ONCE = [number for number in range(2, 45, 3) if number % 7 != ALWAYS]
"""Events of bad messages, which wait for their retry."""
FROZEN_SECONDS = 4.0 * len(FAILING_ONCE)
"""Shorter than 5 s for each event, the limit of a reply."""
SECONDS, PAUSE_SECONDS = 180.0 + WEBHOOKS / 10, 0.15
LARGE, SPOOL_BYTES = "x" * 200_000, 2**20


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


def find_late(places: Mapping[Sent, Sequence[tuple[int, str]]]) -> list[int]:
    """Return the shard of each event whose first entry follows that of a later event of its message."""
    late: list[int] = []
    for message in {message for message, _ in places}:
        firsts = [places[sent][0] for sent in sorted(places) if sent[0] == message]
        times = [tuple(map(int, entry_id.split("-"))) for _, entry_id in firsts]
        late += [firsts[place][0] for place, time in enumerate(times) if time > min(times[place:])]
    return late


def count_spooled() -> float:
    """Count the entries that this process's ingest has ever spooled, for any reason."""
    [metric] = SPOOLED.collect()
    return sum(sample.value for sample in metric.samples if sample.name.endswith("_total"))


async def fail_over(system: OrderedSystem, load: OrderedLoad, fault: str, folder: Path) -> tuple[set[Sent], set[str]]:
    """Kill the node that has the failing shard, or freeze it until its replica has the slot.

    Return the events that are on its disk, and the entries that the group has settled there.
    """
    old = await system.cluster.find_owner(system.slot(FAILING))
    if fault == "killed":
        old.node.kill()
    else:
        old.node.process.send(signal.SIGSTOP)
    await system.cluster.is_replaced(system.slot(FAILING), old)
    await load.keeps(WEBHOOKS)
    async with open_disk(old, system.cluster, folder) as disk:
        on_disk = {sent for each in system.shards for _, sent in await read_stream(disk, each)}
        settled = await read_settled(disk, system.shards)
    if fault == "frozen":
        old.node.process.send(signal.SIGCONT)
        await load.keeps(WEBHOOKS)
    return on_disk, settled


@pytest.mark.parametrize(("fault", "budget_ms"), FAIL_OVERS)
async def test_each_message_keeps_its_order_while_a_slot_moves_and_a_primary_fails(
    shard: Shard, tmp_path: Path, fault: str, budget_ms: int
) -> None:
    """No event overtakes another of its message, except by the spool; a fail-over loses what only the old node had."""
    (tmp_path / "nodes").mkdir()
    async with (
        run_cluster(tmp_path / "nodes") as cluster,
        run_system(cluster, shard, tmp_path, WORKERS, ack_budget_ms=budget_ms) as system,
    ):
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
            on_disk, unsettled = await fail_over(system, load, fault, tmp_path / "disk")
            load.end()
        await until(system.is_settled, seconds=SECONDS)
        places = await system.read_entries()
        owned = (await gather_stats(system.server, system.shards))["groups"][GROUP]["owners"]
        is_single = await cluster.find_epoch() == epoch + 1  # a machine that stalls may start further fail-overs
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
    names, numbers = choose_messages(), itertools.count(2)
    async with (
        run_cluster(tmp_path / "nodes", replicas=False) as cluster,
        run_system(cluster, shard, tmp_path, 1, spool_bytes=SPOOL_BYTES, max_body=SPOOL_BYTES) as system,
        open_http() as http,
    ):
        assert [await system.post(http, names[number], 0) for number in range(SHARDS)] == [200] * SHARDS
        await until(lambda: system.are_handled(names, 0), seconds=SECONDS)
        lost = await cluster.find_owner(system.slot(1))
        lost.node.kill()
        away = [number for number in range(SHARDS) if await cluster.find_owner(system.slot(number)) is lost]
        there = {number: name for number, name in names.items() if number not in away}
        assert [await system.post(http, names[number], 1) for number in range(SHARDS)] == [200] * SHARDS
        assert read_metric("spool_entries") == len(away)
        await until(lambda: system.are_handled(there, 1), seconds=SECONDS)

        async def is_refused() -> bool:
            return await system.post(http, names[1], next(numbers), padding=LARGE) == 503

        await until(is_refused)
        last = next(numbers)
        assert [await system.post(http, name, last, padding=LARGE) for name in there.values()] == [200] * len(there)
        await until(lambda: system.are_handled(there, last), seconds=SECONDS)
        await lost.node.start()
        await until(system.is_settled, seconds=SECONDS)
        places = await system.read_entries()
    report = read_report(tmp_path)

    assert 0 not in away
    assert set(system.accepted) <= places.keys()
    assert find_scattered(places) == set()
    assert report.faults == []
    assert [sent for sent, entries in places.items() if not report.handled & name_entries(entries)] == []


async def test_a_frozen_primary_delays_only_its_messages(shard: Shard, tmp_path: Path) -> None:
    """While a node is frozen, the events of others are handled, also those that fail; its own follow in order."""
    (tmp_path / "nodes").mkdir()
    names = choose_messages("bad")
    async with (
        run_cluster(tmp_path / "nodes", replicas=False) as cluster,
        run_system(cluster, shard, tmp_path, 1, pace=0.2, ack_budget_ms=2000) as system,
        open_http() as http,
    ):
        assert [await system.post(http, names[number], 0) for number in range(SHARDS)] == [200] * SHARDS
        await until(lambda: system.are_handled(names, 0), seconds=SECONDS)
        frozen = await cluster.find_owner(system.slot(1))
        owners = {number: await cluster.find_owner(system.slot(number)) for number in names}
        there = {number: name for number, name in names.items() if owners[number] is not frozen}
        with freeze(frozen.node.process.child.pid):
            async with asyncio.timeout(FROZEN_SECONDS):
                for event in FAILING_ONCE:
                    posts = [system.post(http, name, event) for name in names.values()]
                    assert await asyncio.gather(*posts) == [200] * SHARDS
                    await until(partial(system.are_handled, there, event), seconds=SECONDS)
        await until(system.is_settled, seconds=SECONDS)
        places = await system.read_entries()
    report = read_report(tmp_path)

    assert len(there) < SHARDS
    assert set(system.accepted) == places.keys()
    assert find_scattered(places) == set()
    assert find_late(places) == []
    assert report.faults == []
    assert [sent for sent, entries in places.items() if not report.handled & name_entries(entries)] == []


async def test_spooled_entries_wait_for_their_shards(shard: Shard, tmp_path: Path) -> None:
    """An ingest that starts without shard 0 spools all. Each entry reaches its shard once, though one is later."""
    (tmp_path / "nodes").mkdir()
    names = choose_messages()
    async with (
        run_cluster(tmp_path / "nodes", replicas=False) as cluster,
        run_system(cluster, shard, tmp_path, 0, lost=0) as system,
        open_http() as http,
    ):
        assert [await system.post(http, names[number], 0) for number in range(SHARDS)] == [200] * SHARDS
        assert read_metric("spool_entries") == SHARDS
        other = await cluster.find_owner(system.slot(1))
        other.node.kill()
        await (await cluster.find_owner(system.slot(0))).node.start()

        async def are_appended() -> bool:
            try:
                return all([await system.server.xlen(system.shards[number].stream) for number in (0, 3)])
            except RedisError:
                return False

        await until(are_appended, seconds=SECONDS)
        assert read_metric("spool_entries") == SHARDS
        await other.node.start()
        await becomes(lambda: not read_metric("spool_entries"), seconds=SECONDS)
        places = await system.read_entries()

    assert find_scattered(places) == set()
    assert {sent: len(entries) for sent, entries in places.items()} == {(name, 0): 1 for name in names.values()}
