"""`ackstream trace` shows a message to people and programs."""

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import orjson
import pytest

from stream.keys import Shard
from stream.redis.client import client
from tests.support.commands import run_command
from tests.support.databases import make_sqlite
from tests.support.samples.events import RECEIVED_MS, body, event
from worker.group.group_ref import GroupRef
from worker.settle.history import EntryOutcome, History
from worker.store.database import open_engine
from worker.store.handler import Store

MESSAGE = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
QUERY = b"tenant=447700900123&note=%1b%5b31m"


@pytest.fixture
def url(tmp_path: Path, valkey_url: str, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with two events of one message, beside a Redis without them."""
    monkeypatch.setenv("ACKSTREAM_REDIS_URL", valkey_url)
    monkeypatch.setenv("ACKSTREAM_STREAM", shard.name)
    url = make_sqlite(tmp_path / f"{secrets.token_hex(4)}.db")

    async def fill() -> None:
        engine = open_engine(url)
        payloads = [body(message_uuid=MESSAGE, status=status, to="447700900123") for status in ("submitted", "read")]
        queries = QUERY, None
        await Store(engine).handle(
            [
                event(payload, RECEIVED_MS + number, f"0/{RECEIVED_MS}-{number}", query=queries[number])
                for number, payload in enumerate(payloads)
            ]
        )
        await engine.dispose()

    asyncio.run(fill())
    return url


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_a_message_fits_the_terminal_with_its_ids_whole(url: str, columns: int) -> None:
    """Times have no microseconds, and no id is cut."""
    outcome = run_command("trace", MESSAGE, "--database-url", url, columns=columns)
    assert outcome.code == 0, outcome.stderr
    assert [line for line in outcome.stdout.splitlines() if len(line) > columns] == []
    assert MESSAGE in outcome.stdout
    assert f"0/{RECEIVED_MS}-1" in outcome.stdout
    assert ".000" not in outcome.stdout


def test_the_parameters_of_the_webhook_s_url_are_masked_unless_revealed(url: str) -> None:
    """`trace` shows the names; it shows the values only with --reveal, without control characters."""
    hidden = run_command("trace", MESSAGE, "--database-url", url).stdout
    assert "tenant=***" in hidden
    assert "447700900123" not in hidden
    revealed = run_command("trace", MESSAGE, "--database-url", url, "--reveal", columns=160).stdout
    assert "tenant=447700900123" in revealed
    assert "\x1b" not in revealed
    trace = run_command("trace", MESSAGE, "--database-url", url, "--json").json
    assert [row["query"] for row in trace["events"]] == [{"tenant": "***", "note": "***"}, {}]


@pytest.fixture
def history(valkey_url: str, shard: Shard) -> Iterator[tuple[str, ...]]:
    """Options for a server where two groups have outcomes of the message's second entry, and one of another entry."""
    error = "failed: ValueError at crm.py:7 447700900123"
    outcomes = [
        EntryOutcome("0/1-1", "handled", 2),
        EntryOutcome(f"0/{RECEIVED_MS}-1", "repeated", 1),
        EntryOutcome(f"0/{RECEIVED_MS}-1", "dead-lettered", 24, error),
    ]

    async def fill() -> None:
        async with client(valkey_url) as server:
            await server.sadd(shard.groups, "crm", "store")
            await History(GroupRef(server, shard, "crm")).append([outcomes[0], outcomes[2]])
            await History(GroupRef(server, shard, "store")).append([outcomes[1]])

    asyncio.run(fill())
    with patch.dict("os.environ", {"ACKSTREAM_STREAM": shard.name}):
        yield "--redis-url", valkey_url


def test_a_trace_has_the_outcomes_of_its_entries_in_each_group(url: str, history: tuple[str, ...]) -> None:
    """The history of a group shows retries, repeats, filtered events and dead letters; errors are masked."""
    webhooks = run_command("trace", MESSAGE, "--database-url", url, *history, "--json").json["timeline"]["webhooks"]

    second = next(webhook for webhook in webhooks if webhook["entry"] == f"0/{RECEIVED_MS}-1")
    outcomes = [(group["group"], outcome) for group in second["groups"] for outcome in group["outcomes"]]
    assert [(group, outcome["outcome"], outcome["attempt"]) for group, outcome in outcomes] == [
        ("crm", "dead-lettered", 24),
        ("store", "repeated", 1),
    ]
    assert [outcome["error"] for _, outcome in outcomes] == ["failed: ValueError at crm.py:7 ********0123", None]
    masked = run_command("trace", MESSAGE, "--database-url", url, *history, columns=160).stdout
    assert "dead letter removed" in masked
    assert "447700900123" not in masked
    revealed = run_command("trace", MESSAGE, "--database-url", url, *history, "--reveal", columns=160).stdout
    assert "447700900123" in revealed


def test_a_trace_without_redis_shows_the_tables(url: str) -> None:
    """Without Redis the timeline is null, standard error has the reason and the next step, and the exit code is 1."""
    outcome = run_command("trace", MESSAGE, "--database-url", url, "--redis-url", "redis://127.0.0.1:1", "--json")

    trace = orjson.loads(outcome.stdout)
    assert trace["timeline"] is None
    assert len(trace["events"]) == 2
    assert "Redis at redis://127.0.0.1:1 does not answer (Connection refused): start" in outcome.error


def test_an_unknown_message_is_an_error_with_the_next_step(url: str) -> None:
    """The error names the database, and the command that shows unhandled entries."""
    error = run_command("trace", "nobody", "--database-url", url).error
    assert "no message 'nobody' in sqlite:///" in error
    assert "`ackstream stats`" in error
