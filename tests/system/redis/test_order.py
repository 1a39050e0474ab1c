"""Order mode with real processes."""

import shutil
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from console.queries.stats import gather_stats
from stream.keys import Shard
from stream.layout import change_layout
from stream.settings import StreamSettings
from tests.support.handlers import ordered
from tests.support.order.checker import check_order, read_report
from tests.support.processes import quick_worker
from tests.support.samples.events import body, entry
from tests.support.waiting import until

GROUP, MESSAGES, EVENTS = "g", 8, 6
HANDLER = f"{GROUP}=ordered:handle#concurrency=4&attempts=3&base=0.1&cap=0.1"
SECONDS = 120.0


async def test_each_message_is_handled_in_order_while_workers_come_and_go(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path
) -> None:
    """With failures, a killed and a stopped worker no event overtakes another of its message, and none is left."""
    shutil.copy(ordered.__file__, tmp_path)
    stream = StreamSettings(redis_url=valkey_url, stream=shard.name)
    await change_layout(server, stream, 2)
    shards = [Shard(shard.name, number) for number in range(2)]
    settings = {"redis_url": valkey_url, "stream": shard.name, "order": "message"}

    async def append(number: int) -> None:
        for message in range(MESSAGES):
            name = f"{'bad' if message < 2 else 'ok'}-{message}"
            fields: Any = entry(body(message_uuid=name, client_ref=str(number))).to_fields()
            await server.xadd(shards[message % 2].stream, fields)

    async def are_owned() -> bool:
        owners: list[Any] = [await server.get(each.owner(GROUP)) for each in shards]
        return None not in owners and len({owner.split(b"-")[-2] for owner in owners}) == len(workers)

    async def is_done() -> bool:
        good: Any = entry(body(message_uuid="good")).to_fields()
        await server.xadd(shard.stream, good)  # a success proves that the other events are at fault
        stats = (await gather_stats(server, shards))["groups"][GROUP]
        return bool(stats["outstanding"] <= 1)

    async def are_all_tried() -> bool:
        return len(read_report(tmp_path).tried) >= MESSAGES * EVENTS and await is_done()

    with ExitStack() as running:
        workers = [running.enter_context(quick_worker(1, HANDLER, tmp_path, settings)) for _ in range(2)]
        await until(are_owned, seconds=SECONDS)
        for number in range(EVENTS // 2):
            await append(number)
        owners = (await gather_stats(server, shards))["groups"][GROUP]["owners"]
        workers[0].kill()
        running.enter_context(quick_worker(1, HANDLER, tmp_path, settings))
        for number in range(EVENTS // 2, EVENTS):
            await append(number)
        workers[1].child.send_signal(signal.SIGTERM)
        await until(are_all_tried, seconds=SECONDS)

    report = read_report(tmp_path)
    assert report.faults == []
    assert [owner["shard"] for owner in owners] == [0, 1]
    assert {owner["consumer"].split("-")[-2] for owner in owners} == {str(worker.child.pid) for worker in workers}
    assert await server.xlen(shards[0].dead(GROUP)) + await server.xlen(shards[1].dead(GROUP)) == 0


def test_the_checker_is_not_blind() -> None:
    """The checker finds calls of a message at once or out of order, and forgives a killed process its missing end."""
    assert len(check_order(["start m 0/1-0 1", "start m 0/2-0 2", "end m 0/1-0 1"]).overlaps) == 1
    assert len(check_order(["start m 0/2-0 1", "end m 0/2-0 1", "start m 0/1-0 1"]).disorders) == 1
    assert check_order(["start m 0/1-0 1", "start m 0/1-0 2", "end m 0/1-0 2"]).faults == []
    again = ["start m 0/1-0 1", "end m 0/1-0 1", "start m 0/2-0 1", "end m 0/2-0 1", "start m 0/1-0 1"]
    assert [len(check_order(again, unsettled).disorders) for unsettled in ((), ("0/1-0",))] == [1, 0]
    assert len(check_order(again[2:], ("0/1-0",)).disorders) == 1
