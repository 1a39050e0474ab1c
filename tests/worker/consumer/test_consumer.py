"""When a consumer reads its next entries, while its group keeps up with live entries."""

from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.in_process import run_group
from tests.support.samples.events import body
from tests.support.streams.settled import append_payloads, is_settled
from tests.support.waiting import until
from tests.support.workers.gated_handler import GatedHandler
from worker.dispatch.call import Limits
from worker.handler_loader import LoadedHandler
from worker.settle.retry_policy import RetryPolicy


def make_handler(*shut: str) -> GatedHandler:
    """Return a handler of lists, whose calls with these messages wait."""
    handler = GatedHandler(alone=lambda _event: False)
    handler.shut = set(shut)
    return handler


async def append(server: Redis, shard: Shard, *ids: str) -> None:
    await append_payloads(server, shard, *(body(message_uuid=each) for each in ids))


async def test_entries_that_come_during_a_call_share_the_next_one(valkey_url: str, server: Redis, shard: Shard) -> None:
    """A handler that takes one call at a time, such as `store`, gets all of them at once when its call has ended."""
    handler = make_handler("first")
    await append(server, shard, "first")

    async def is_called() -> bool:
        return bool(handler.began)

    async with run_group(server, valkey_url, shard, LoadedHandler(handler, Limits(), RetryPolicy())):
        await until(is_called)
        await append(server, shard, "a", "b", "c")
        handler.open("first")
        await until(lambda: is_settled(server, shard, "g"))

    assert handler.began == [["first"], ["a", "b", "c"]]


async def test_a_free_call_takes_entries_while_another_one_runs(valkey_url: str, server: Redis, shard: Shard) -> None:
    """With room for a second call, an entry does not wait for the first one."""
    handler = make_handler("first")
    await append(server, shard, "first")

    async def has_calls(number: int) -> bool:
        return len(handler.began) == number

    limits = Limits(concurrency=2)
    async with run_group(server, valkey_url, shard, LoadedHandler(handler, limits, RetryPolicy())):
        await until(lambda: has_calls(1))
        await append(server, shard, "second")
        await until(lambda: has_calls(2))
        handler.open("first")
        await until(lambda: is_settled(server, shard, "g"))

    assert handler.began == [["first"], ["second"]]
