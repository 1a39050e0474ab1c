"""The outcome of a sample: handled, failed again, or waiting."""

from typing import Any

from redis.asyncio import Redis

from console.queries.causes.dead import DeadScope, count_dead, replay_dead, select_dead
from console.queries.causes.sample import find_sample
from stream.keys import Shard
from tests.support.samples.events import body
from tests.support.workers.failing_group import FailingGroup
from worker.sources import Source

MESSAGES = ("m-0", "m-1", "m-2", "m-3")


async def judge(group: FailingGroup, cause: str) -> dict[str, Any]:
    """Return the parts of the outcome that change."""
    outcome = await find_sample(group.ref.server, [group.ref.shard], [group.ref.name], cause)
    assert outcome is not None
    summary = outcome.summary()
    return {name: summary[name] for name in ("copied", "handled", "failed", "waiting", "is_over")}


async def test_each_copy_of_a_sample_is_followed_to_its_end(server: Redis, shard: Shard) -> None:
    """A copy waits in the replay stream, as a delayed retry or in the retry stream; then it is handled or dead."""
    group = FailingGroup(server, shard, *MESSAGES)
    await group.start()
    for message in MESSAGES:
        await group.append(body(message_uuid=message))
    await group.handle()
    await group.give_up()
    scope = DeadScope([shard], [group.ref.name])
    [cause] = (await count_dead(server, scope)).causes.ordered
    assert await find_sample(server, [shard], scope.groups, cause.id) is None

    scope, selected = await select_dead(server, scope, cause.id, sample=3)
    await replay_dead(server, scope, selected, 1000, person="ann", why="fixed")
    started = await judge(group, cause.id)
    await group.copy_replays()
    copied = await judge(group, cause.id)
    group.fails = {"m-1"}
    await group.handle(Source.REPLAY)
    delayed = await judge(group, cause.id)
    while await server.xlen(shard.dead(group.ref.name)) == 1:
        await group.succeed()
        await group.handle(Source.RETRY)
    ended = await judge(group, cause.id)

    assert started == {"copied": 0, "handled": 0, "failed": 0, "waiting": 3, "is_over": False}
    assert copied == {"copied": 3, "handled": 0, "failed": 0, "waiting": 3, "is_over": False}
    assert delayed == {"copied": 3, "handled": 2, "failed": 0, "waiting": 1, "is_over": False}
    assert ended == {"copied": 3, "handled": 2, "failed": 1, "waiting": 0, "is_over": True}
