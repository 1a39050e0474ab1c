"""Groups and replays of a stream with several shards."""

from typing import Any

import pytest
from redis.asyncio import Redis

from console.queries.replays import ReplayRequest, change_rate, list_replays, move, plan_all, start
from console.queries.run.group_overview import read_overview
from console.queries.run.replay_cards import CopyRates, read_cards
from console.queries.run.replay_plans import open_plans
from runtime.errors import CommandError
from stream.keys import Shard
from tests.support.samples.events import body, entry
from tests.support.streams.retention import group, register
from worker.group.group_ref import GroupRef
from worker.replay.entry_filter import ALL
from worker.replay.job import Place, State
from worker.replay.repository import Replays


@pytest.fixture
async def shards(server: Redis, shard: Shard) -> list[Shard]:
    """Four shards with three entries each, of which group g has read two and settled one."""
    shards = [Shard(shard.name, number) for number in range(4)]
    for each in shards:
        for number in range(3):
            fields: Any = entry(body(message_uuid=f"m-{number}")).to_fields()
            await server.xadd(each.stream, fields)
        await group(server, each, "g", read=2, ack=1)
        await register(server, each, "g")
    return shards


async def test_a_group_is_one_over_all_shards(server: Redis, shards: list[Shard]) -> None:
    """Its work is the sum, and its pause is that of shard 0."""
    await server.hset(shards[0].paused("g"), "why", "operator")

    [overview] = await read_overview(server, shards)

    assert (overview.position.unread, overview.position.pending, overview.outstanding) == (4, 4, 8)
    assert overview.pause is not None


async def test_a_replay_is_one_over_all_shards(server: Redis, shards: list[Shard]) -> None:
    """It has one id, the sum of its parts, and its acts reach every part that has not ended."""
    request = ReplayRequest(shards[0], "g", Place.STREAM, ALL, 100, None)
    async with open_plans(server) as plans:
        counts = [await plans.find(part, seconds=60) for part, _ in await plan_all(server, shards, request)]
    replay = await start(server, [(count.request, count.plan) for count in counts], person="ann")

    [card] = await read_cards(server, shards, CopyRates())
    assert (card.progress.replay.id, card.progress.replay.total, card.progress.state) == (replay.id, 12, State.RUNNING)
    assert card.kept is not None
    assert card.kept.entries == 12
    await _end_part(server, shards[3], replay.id)
    assert (await change_rate(server, shards, replay.id, 40)).rate == pytest.approx(40)
    assert (await move(server, shards, replay.id, "pause")).state is State.PAUSED
    assert (await move(server, shards, replay.id, "cancel")).state is State.CANCELLED
    with pytest.raises(CommandError, match="is cancelled already"):
        await move(server, shards, replay.id, "pause")
    assert [part.state for each in shards for part in await list_replays(server, [each], "g")] == [
        *[State.CANCELLED] * 3,
        State.DONE,
    ]


async def _end_part(server: Redis, shard: Shard, replay_id: str) -> None:
    replays = Replays(GroupRef(server, shard, "g"))
    part = await replays.find(replay_id)
    assert part is not None
    await replays.change_state(part.replay, State.DONE, allowed=[State.RUNNING])
