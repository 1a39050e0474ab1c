"""Copies of failed entries have the errors, and the history has the outcomes of entries."""

import json
from typing import Any

from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.samples.events import body, flat
from tests.support.streams.delayed import read_delayed
from tests.support.workers.parts import Parts, make_parts
from tests.support.workers.processing import append_and_read, process_entries
from worker.events.event import StatusEvent
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import RawEntries  # noqa: TC001 - tests keep one habit
from worker.handlers.errors import Discard
from worker.handlers.function import SingleEventFunction
from worker.settle.dedup import DedupWindow
from worker.settle.delayed import DelayedRetries
from worker.settle.retry_policy import LONGEST_MESSAGE_BYTES, RetryPolicy, error_message
from worker.sources import Source

SECRET = "hunter2-hunter2"  # noqa: S105 - of this test


async def fail(event: StatusEvent) -> None:
    """Fail at the first attempts or discard, by the message's id."""
    if event.message_uuid == "discard":
        raise Discard("not ours")
    if event.message_uuid == "late" and event.attempt < 13:
        raise ValueError(f"no route with {SECRET} to {event.to}")


async def retry(server: Redis, shard: Shard, parts: Parts) -> None:
    """Promote and process the due retries."""
    await DelayedRetries(GroupRef(server, shard, "g")).promote()
    reply: Any = await server.xreadgroup("g", parts.heartbeat.consumer, {shard.retry("g"): ">"})
    due: RawEntries = [(entry_id, flat(fields)) for entry_id, fields in reply[0][1]]
    await process_entries(parts.processor, due, parts.heartbeat.generation, Source.RETRY)


async def test_a_delayed_retry_carries_the_message_and_the_last_attempts(server: Redis, shard: Shard) -> None:
    """A copy has the message without secrets, and the last ten attempts with class, place and time."""
    parts = make_parts(
        server, shard, SingleEventFunction(fail, 60), policy=RetryPolicy(base_seconds=0), secrets=[SECRET]
    )
    entries = await append_and_read(server, shard, parts.heartbeat, [body(message_uuid="late", to="447700900123")])
    await process_entries(parts.processor, entries, parts.heartbeat.generation)
    for _ in range(11):
        await retry(server, shard, parts)
    ((copy, _),) = await read_delayed(server, shard, "g")
    assert copy[b"message"] == "no route with … to 447700900123".encode()
    assert copy[b"error"].startswith(b"failed: ValueError at test_visible_errors.py:")
    errors = json.loads(copy[b"errors"])
    assert len(errors) == 10
    assert {error["class"] for error in errors} == {"ValueError"}
    assert {error["place"].partition(":")[0] for error in errors} == {"test_visible_errors.py"}
    assert [error["ms"] for error in errors] == sorted(error["ms"] for error in errors)
    assert SECRET not in str(errors) + str(copy)
    assert "447700900123" not in copy[b"error"].decode() + str(errors)
    assert int(copy[b"first_failed_ms"]) <= int(copy[b"failed_ms"])


async def test_the_history_has_entries_not_handled_at_once(server: Redis, shard: Shard) -> None:
    """The history has entries handled at a later attempt, repeats and dead letters, and no others."""
    memory = DedupWindow(3600, 100)
    parts = make_parts(server, shard, SingleEventFunction(fail, 60), policy=RetryPolicy(base_seconds=0), memory=memory)
    payloads = [body(message_uuid=name) for name in ("ok", "discard", "late", "ok")]
    entries = await append_and_read(server, shard, parts.heartbeat, payloads[:3])
    await process_entries(parts.processor, entries, parts.heartbeat.generation)
    again = await append_and_read(server, shard, parts.heartbeat, payloads[3:])
    await process_entries(parts.processor, again, parts.heartbeat.generation)
    for _ in range(12):
        await retry(server, shard, parts)
    outcomes: Any = await server.xrange(shard.history("g"))
    assert [
        (outcome[b"origin"], outcome[b"outcome"], outcome[b"attempt"], outcome[b"error"]) for _, outcome in outcomes
    ] == [
        (b"0/" + entries[1][0], b"dead-lettered", b"1", b"discarded: not ours"),
        (b"0/" + again[0][0], b"repeated", b"1", b""),
        (b"0/" + entries[2][0], b"handled", b"13", b""),
    ]


def test_a_message_is_bounded_in_bytes() -> None:
    """The limit counts bytes of UTF-8; an error whose text fails has an empty message."""
    assert len(error_message(ValueError("ü" * 5000)).encode()) <= LONGEST_MESSAGE_BYTES

    class BrokenError(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert error_message(BrokenError()) == ""
