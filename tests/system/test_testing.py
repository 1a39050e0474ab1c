import asyncio
import importlib.util
import logging
import shutil
import sqlite3
from pathlib import Path
from types import ModuleType

import pytest
from redis.asyncio import Redis

from runtime.errors import CommandError
from stream.keys import Shard
from tests.support.processes import ackstream, becomes
from tests.support.samples.events import entry
from tests.support.samples.examples import NAMES, example
from worker import Discard, Retry, StatusEvent, Unavailable, testing

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
KINDS = [(channel, status) for channel, statuses in testing.STATUSES.items() for status in statuses]


def load(name: str) -> ModuleType:
    """Import an example of the docs."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("channel", "status"), KINDS)
def test_there_is_an_event_for_every_channel_and_status(channel: str, status: str) -> None:
    """Parsed as the worker would: with its status, a time, no number of a real person, and an error where it failed."""
    event = testing.event(channel, status)
    assert (event.status, event.channel) == (status, "sms" if channel == "receipt" else channel)
    assert event.occurred_at is not None
    assert event.to is None or event.to.startswith("4477009000")
    assert bool(event.error_code) == (status in ("rejected", "undeliverable"))


def test_an_events_payload_can_be_changed() -> None:
    """Arguments replace fields, None removes one, and an unknown name is refused with the list of names."""
    event = testing.event("sms", "delivered", client_ref=None, attempt=3, **{"from": "AcmeInc"})
    assert (event.client_ref, event.sender, event.attempt, event.replayed) == (None, "AcmeInc", 3, False)
    assert testing.event().event_id != event.event_id
    assert testing.event_of(event.raw, replayed=True).replayed
    for kind in (("pigeon", "delivered"), ("sms", "read")):
        with pytest.raises(ValueError, match="no sample of channel"):
            testing.event(*kind)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("sig", "v1-13"))])
def test_a_payload_that_one_has_makes_an_event(name: str) -> None:
    """JSON, form or query."""
    assert testing.event_of(example(name).payload).message_uuid


async def test_a_handler_that_cancels_its_own_task_fails_only_its_event() -> None:
    """As in a worker; the task of the test is not cancelled."""

    async def handle(_event: StatusEvent) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    outcome = await testing.run(handle, testing.event())
    await asyncio.sleep(0)
    assert (outcome.word, type(outcome.error)) == ("retry", asyncio.CancelledError)


async def test_a_test_can_cancel_a_call_and_be_interrupted_in_it() -> None:
    """A time limit of the test ends the handler; Ctrl-C is not taken for a failure of the event."""
    never = asyncio.Event()

    async def wait(_event: StatusEvent) -> None:
        await never.wait()

    async def interrupt(_event: StatusEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await testing.run(wait, testing.event())
    with pytest.raises(KeyboardInterrupt):
        await testing.run(interrupt, testing.event())


@pytest.mark.parametrize(
    ("error", "attempt", "word", "after_seconds", "reason"),
    [
        (None, 1, "done", None, None),
        (Discard("not ours"), 1, "discarded", None, "discarded: not ours"),
        (Retry(30, "too early"), 1, "retry", 30, "retry: too early"),
        (Retry(30), 24, "given up", None, "attempts: retry: asked for by the handler"),
        (Unavailable(), 1, "unavailable", None, None),
        (ValueError("447700900123"), 2, "retry", 10, "failed: ValueError at test_testing.py:"),
        (asyncio.CancelledError(), 1, "retry", 5, "failed: CancelledError at test_testing.py:"),
        (GeneratorExit(), 1, "retry", 5, "failed: GeneratorExit at test_testing.py:"),
        (BaseException(), 1, "retry", 5, "failed: BaseException at test_testing.py:"),
        (SystemExit(), 24, "given up", None, "attempts: failed: SystemExit at test_testing.py:"),
    ],
)
async def test_what_would_become_of_an_event_is_told(
    error: BaseException | None, attempt: int, word: str, after_seconds: float | None, reason: str | None
) -> None:
    """The result is the decision of a worker with default delays, and names the longest delay."""

    async def handle(_event: StatusEvent) -> None:
        if error is not None:
            raise error

    outcome = await testing.run(handle, testing.event(attempt=attempt))
    reason_word = outcome.reason.rstrip("0123456789") if outcome.reason else None
    assert (outcome.word, outcome.after_seconds, reason_word) == (word, after_seconds, reason)
    assert outcome.error is error


async def test_a_handler_has_its_time_and_gets_what_it_takes() -> None:
    """A call over its time fails; a function of lists gets a list; an object that is not a handler is refused."""

    async def slow(_event: StatusEvent) -> None:
        await asyncio.Event().wait()

    async def lists(events: list[StatusEvent]) -> None:
        raise Discard(str(len(events)))

    outcome = await testing.run(slow, testing.event(), timeout_seconds=0.01)
    assert (outcome.word, outcome.reason) == ("retry", "timeout: not done within 0.01 s")
    assert (await testing.run(lists, [testing.event(), testing.event()])).reason == "discarded: 2"
    with pytest.raises(ValueError, match="one event at a time"):
        await testing.run(slow, [testing.event(), testing.event()])
    with pytest.raises(CommandError, match="is not `async def`"):
        await testing.run(print, testing.event())


def orders_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE orders (id TEXT PRIMARY KEY, delivered_at TEXT)")
    connection.execute("INSERT INTO orders (id) VALUES ('order-7')")
    connection.commit()
    connection.close()


def read_delivered_at(path: Path) -> str | None:
    connection = sqlite3.connect(path)
    ((at,),) = connection.execute("SELECT delivered_at FROM orders")
    connection.close()
    return None if at is None else str(at)


async def test_the_example_of_orders(tmp_path: Path) -> None:
    """A delivered message marks its order, twice the same; without an order it waits; without a reference it ends."""
    orders_table(tmp_path / "orders.db")
    on_status = load("orders").on_status
    assert (await testing.run(on_status, testing.event("sms", "submitted"))).word == "done"
    assert read_delivered_at(tmp_path / "orders.db") is None
    for _ in range(2):
        assert (await testing.run(on_status, testing.event("whatsapp", "delivered"))).word == "done"
    assert read_delivered_at(tmp_path / "orders.db") == "2025-02-03T12:14:03+00:00"
    assert (await testing.run(on_status, testing.event(client_ref="order-8"))).after_seconds == 30
    assert (await testing.run(on_status, testing.event(client_ref=None))).word == "discarded"


async def test_the_example_of_the_failure_share(caplog: pytest.LogCaptureFixture) -> None:
    """The example warns once when the share is above a tenth, and again after the share was down."""
    on_statuses = load("failure_share").on_statuses
    good, bad = testing.event("sms", "delivered"), testing.event("sms", "rejected")
    with caplog.at_level(logging.WARNING):
        for events, warned in (([good] * 95 + [bad] * 10, 0), ([bad] * 3, 1), ([bad] * 50, 1), ([good] * 200, 1)):
            assert (await testing.run(on_statuses, events)).word == "done"
            assert len(caplog.records) == warned
        await testing.run(on_statuses, [bad] * 30)
    assert [record.getMessage() for record in caplog.records] == [
        "10 % of the last messages by sms failed",
        "10 % of the last messages by sms failed",
    ]


async def test_the_example_of_orders_in_a_worker(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> None:
    """As a handler of a real worker, copied into the working folder."""
    orders_table(tmp_path / "orders.db")
    shutil.copy(EXAMPLES / "orders.py", tmp_path)
    await server.xadd(shard.stream, entry(testing.payload("rcs", "delivered")).to_fields())  # type: ignore[arg-type]
    settings = {"redis_url": valkey_url, "stream": shard.name}
    with ackstream("worker", "--handler", "orders:on_status", folder=tmp_path, **settings):
        await becomes(lambda: read_delivered_at(tmp_path / "orders.db"))
