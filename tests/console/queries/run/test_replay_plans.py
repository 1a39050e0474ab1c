"""Plans are counted in the background, and a start checks that the number still holds."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from console.queries.replays import ReplayRequest
from console.queries.run import replay_plans
from console.queries.run.replay_plans import PlanBoard, TooManyPlans, open_plans
from runtime.errors import CommandError
from stream.keys import Shard
from tests.support.samples.events import body, entry
from tests.support.waiting import until
from worker.replay.entry_filter import ALL, EntryFilter
from worker.replay.job import Place

ENTRIES = 2000


@pytest.fixture
async def board(server: Redis) -> AsyncIterator[PlanBoard]:
    async with open_plans(server) as plans:
        yield plans


@pytest.fixture
async def request_all(server: Redis, shard: Shard) -> ReplayRequest:
    """A request for all entries of a stream with a registered group."""
    await server.sadd(shard.groups, "g")
    await append(server, shard.stream, range(1, ENTRIES + 1))
    return ReplayRequest(shard, "g", Place.STREAM, ALL, 100, None)


async def append(server: Redis, key: str, numbers: range) -> None:
    async with server.pipeline(transaction=False) as pipe:
        for number in numbers:
            pipe.xadd(key, entry(body(message_uuid=f"m-{number}")).to_fields(), id=f"{number}-0")  # type: ignore[arg-type]
        await pipe.execute()


async def test_a_long_count_shows_its_progress(board: PlanBoard, request_all: ReplayRequest) -> None:
    """A page gets the number so far at once, and the whole number later; another rate needs no other count."""
    first = await board.find(request_all, seconds=0)
    assert first.is_running
    assert board.recall(request_all) is None
    assert 0 <= first.plan.read < ENTRIES == first.length
    await until(lambda: _is_done(board, request_all))
    count = await board.find(replace(request_all, rate=7))
    assert (count is first, count.plan.entries, count.plan.read) == (True, ENTRIES, ENTRIES)
    assert board.recall(request_all) is count


async def _is_done(board: PlanBoard, request: ReplayRequest) -> bool:
    return not (await board.find(request, seconds=0)).is_running


async def test_a_count_ends_when_nobody_looks_at_it(
    board: PlanBoard, request_all: ReplayRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed page leaves no count running."""
    monkeypatch.setattr(replay_plans, "UNSEEN_SECONDS", 0.0)
    count = await board.find(request_all, seconds=0)
    assert count.task is not None
    await asyncio.wait([count.task], timeout=60)
    assert count.plan.read < ENTRIES
    assert board.recall(request_all) is None


async def test_few_counts_run_at_a_time(board: PlanBoard, request_all: ReplayRequest) -> None:
    """One more is refused, and starts once another is complete."""
    requests = [replace(request_all, selection=EntryFilter(accounts=(name,))) for name in "abcd"]
    for request in requests[: replay_plans.MOST_RUNNING]:
        await board.find(request, seconds=0)
    with pytest.raises(TooManyPlans):
        await board.find(requests[-1], seconds=0)
    await until(lambda: _is_done(board, requests[0]))
    assert (await board.find(requests[-1], seconds=60)).plan.entries == 0


async def test_a_plan_holds_until_its_entries_change(
    server: Redis, board: PlanBoard, request_all: ReplayRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New entries are not part of a plan; trimmed and deleted ones change its number.

    Without deleted and trimmed entries no entry is read again.
    """
    recount_seconds = replay_plans.RECOUNT_SECONDS
    monkeypatch.setattr(replay_plans, "RECOUNT_SECONDS", 0)
    key = request_all.shard.stream
    count = await board.find(request_all, seconds=60)
    await append(server, key, range(ENTRIES + 1, ENTRIES + 3))
    assert await board.is_current(count)
    await server.xdel(key, f"{ENTRIES + 1}-0")
    assert not await board.is_current(count)
    monkeypatch.setattr(replay_plans, "RECOUNT_SECONDS", recount_seconds)
    assert await board.is_current(count)
    await server.xtrim(key, minid="11-0", approximate=False)
    assert not await board.is_current(count)
    again = await board.find(request_all, seconds=5, again=True)
    assert again.plan.entries == ENTRIES - 10 + 1
    assert await board.is_current(again)


async def test_a_plan_of_dead_letters_is_counted_again(server: Redis, board: PlanBoard, shard: Shard) -> None:
    """Dead letters that were replayed or discarded since change the number; later ones do not."""
    await server.sadd(shard.groups, "g")
    await append(server, shard.dead("g"), range(1, 11))
    request = ReplayRequest(shard, "g", Place.DEAD, ALL, 100, None)
    count = await board.find(request, seconds=60)
    await append(server, shard.dead("g"), range(11, 13))
    assert await board.is_current(count)
    await server.xdel(shard.dead("g"), "3-0")
    assert not await board.is_current(count)


async def test_an_unknown_group_is_an_error(board: PlanBoard, request_all: ReplayRequest) -> None:
    """The error names the groups, and the board keeps nothing."""
    with pytest.raises(CommandError, match="no group 'nobody'; the groups are: g"):
        await board.find(replace(request_all, group="nobody"))


async def test_an_empty_plan_cannot_start(server: Redis, board: PlanBoard, shard: Shard) -> None:
    """A stream without entries gives a plan of 0."""
    await server.sadd(shard.groups, "g")
    count = await board.find(ReplayRequest(shard, "g", Place.STREAM, ALL, 1, None), seconds=60)
    assert (count.plan.entries, count.length) == (0, 0)
    assert not await board.is_current(count)
