"""When a consumer reads its next entries, while its group keeps up with live entries."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.in_process import run_group
from tests.support.samples.events import body
from tests.support.streams.settled import append_payloads, is_settled
from tests.support.waiting import until
from tests.support.workers.gated_handler import GatedHandler
from worker.dispatch.call import Limits
from worker.events.event import StatusEvent
from worker.handler_loader import LoadedHandler
from worker.settle.retry_policy import RetryPolicy


def make_handler(*shut: str) -> GatedHandler:
    """Return a handler of lists, whose calls with these messages wait."""
    handler = GatedHandler(alone=lambda _event: False)
    handler.shut = set(shut)
    return handler


class SlowHandler:
    """A handler that is slower than the reads of its events."""

    def __init__(self) -> None:
        self.handled: list[str] = []

    def alone(self, _event: StatusEvent) -> bool:
        return True

    async def handle(self, events: Sequence[StatusEvent]) -> None:
        await asyncio.sleep(0.002)
        self.handled += [event.message_uuid for event in events]


async def append(server: Redis, shard: Shard, *ids: str) -> None:
    await append_payloads(server, shard, *(body(message_uuid=each) for each in ids))


@asynccontextmanager
async def run_with_entries_during_call(valkey_url: str, server: Redis, shard: Shard) -> AsyncIterator[GatedHandler]:
    """Run a group whose first call ends in the block; three entries have come during the call."""
    handler = make_handler("first")
    await append(server, shard, "first")

    async def is_called() -> bool:
        return bool(handler.began)

    async with run_group(server, valkey_url, shard, LoadedHandler(handler, Limits(), RetryPolicy())):
        await until(is_called)
        await append(server, shard, "a", "b", "c")
        handler.open("first")
        yield handler


async def test_entries_that_come_during_a_call_share_the_next_one(valkey_url: str, server: Redis, shard: Shard) -> None:
    """A handler that takes one call at a time, such as `store`, gets all of them at once when its call has ended."""
    async with run_with_entries_during_call(valkey_url, server, shard) as handler:
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


async def test_in_order_mode_a_backlog_does_not_hold_up_waiting_events(
    valkey_url: str, server: Redis, shard: Shard
) -> None:
    """The second event of a message follows soon after its first one, although many entries wait behind it."""
    handler = SlowHandler()
    others = [f"other-{number}" for number in range(200)]
    twice = [body(message_uuid="twice", client_ref=ref) for ref in ("first", "second")]
    await append_payloads(server, shard, *twice, *(body(message_uuid=each) for each in others))
    limits = Limits(batch_entries=10)

    async with run_group(server, valkey_url, shard, LoadedHandler(handler, limits, RetryPolicy()), order="message"):
        await until(lambda: is_settled(server, shard, "g"))

    assert len(handler.handled) == len(others) + 2
    assert handler.handled[1:].index("twice") < len(others) / 2


async def test_a_stop_during_a_call_reads_no_more_entries(valkey_url: str, server: Redis, shard: Shard) -> None:
    """The worker ends after its call; other workers read the entries that came since."""
    async with run_with_entries_during_call(valkey_url, server, shard) as handler:
        pass  # the call ends after the stop: nothing waits between its end and that of the block

    (group,) = await server.xinfo_groups(shard.stream)
    assert (handler.began, group["lag"]) == ([["first"]], 3)
