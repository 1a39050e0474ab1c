"""The read commands on the data of a real worker."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from console.__main__ import main
from console.main import make_app
from console.simulate.report import print_report
from runtime.errors import CommandError
from stream.entry import EntryId
from stream.keys import Shard
from stream.redis import client as connect
from tests.support.in_process import run_worker
from tests.support.samples.events import body
from tests.support.streams.settled import append_payloads, is_settled
from tests.support.waiting import until
from worker.retention.archive_reader import INDEX
from worker.retention.archive_writer import Archive

YEAR_SECONDS = 365 * 86_400
NUMBER = "447700900123"


@dataclass(frozen=True, slots=True)
class StreamCommands:
    """A stream and the commands on it."""

    redis_url: str
    shard: Shard

    def run(self, *arguments: str) -> Result:
        """Run one command."""
        return CliRunner().invoke(make_app(arguments), arguments)

    def json(self, *arguments: str) -> Any:
        """Run one command with --json, which must succeed; return the value."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return orjson.loads(result.output)


@pytest.fixture
def site(valkey_url: str, shard: Shard, migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> StreamCommands:
    """A stream with two statuses of one message and an invalid payload, all settled."""
    settings = {"redis_url": valkey_url, "stream": shard.name, "database_url": migrated_url}

    async def prepare() -> None:
        server = connect.client(valkey_url)
        common = {"to": NUMBER, "from": "AcmeInc", "client_ref": "order-7"}
        submitted = {
            "status": "submitted",
            "timestamp": "2020-01-01T14:00:00Z",
            "usage": {"price": "0.0330", "currency": "EUR"},
        }
        await append_payloads(
            server, shard, body(**common, **submitted), body(**common, timestamp="2020-01-01T14:00:01.5Z")
        )
        await append_payloads(server, shard, b'{"note":"call %s"}' % NUMBER.encode())
        async with run_worker(**settings):
            await until(lambda: is_settled(server, shard, "store", "log"))
        await server.aclose()

    asyncio.run(prepare())
    for name, value in settings.items():
        monkeypatch.setenv(f"ACKSTREAM_{name.upper()}", value)
    return StreamCommands(valkey_url, shard)


def test_trace_shows_a_message_and_its_events(site: StreamCommands) -> None:
    """`trace` shows the state, the time of each status and every event; numbers are masked without --reveal."""
    message = site.json("trace", "m-1")
    events = message.pop("events")
    steps = [step for webhook in message.pop("timeline")["webhooks"] for step in webhook["groups"]]
    assert [(step["group"], step["state"]) for step in steps] == 2 * [("log", "settled"), ("store", "settled")]
    assert message.pop("away") == []
    assert message.pop("status_at") == "2020-01-01T14:00:01.500000+00:00"
    assert {name: value for name, value in message.items() if value not in (None, False)} == {
        "message_uuid": "m-1",
        "status": "delivered",
        "channel": "sms",
        "to": "********0123",
        "from": "AcmeInc",
        "client_ref": "order-7",
        "price": "0.0330",
        "currency": "EUR",
        "statuses": {"submitted": "2020-01-01T14:00:00+00:00", "delivered": "2020-01-01T14:00:01.500000+00:00"},
    }
    columns = {"event_id", "status", "occurred_at", "received_at", "entry", "query"}
    assert [set(event) for event in events] == [columns] * 2
    assert [event["status"] for event in events] == ["submitted", "delivered"]
    assert EntryId.from_text(events[0]["entry"]) < EntryId.from_text(events[1]["entry"])
    assert site.json("trace", "m-1", "--reveal")["to"] == NUMBER
    table = site.run("trace", "m-1")
    assert "delivered at" in table.output
    assert NUMBER not in table.output


def test_trace_of_an_unknown_message_exits_with_1(site: StreamCommands, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the database."""
    result = site.run("trace", "nobody")
    assert (result.exit_code, type(result.exception)) == (1, CommandError)
    monkeypatch.setattr("sys.argv", ["ackstream", "trace", "nobody"])
    with pytest.raises(SystemExit, match="ackstream: no message 'nobody' in "):
        main()


def test_stats_show_the_open_work_of_each_group(site: StreamCommands) -> None:
    """`stats` shows no open work after all entries are settled, and one dead letter for each group."""
    waiting = {"unread": 0, "unread_exact": True, "pending": 0, "retries": 0, "replays": 0}
    group = waiting | {"dead": 1, "paused": None, "outstanding": 0}
    idle: dict[str, Any] = group | {"oldest_seconds": None, "owners": []}
    stats = site.json("stats")
    assert stats["groups"] == {"log": idle, "store": idle}
    assert [(shard["shard"], shard["length"]) for shard in stats["shards"]] == [(0, 3)]
    assert "store" in site.run("stats").output


def test_stats_count_outstanding_entries_and_their_age(site: StreamCommands) -> None:
    """Unread entries and one in flight count as outstanding; the age is that of the oldest."""

    async def append_entries() -> None:
        server = connect.client(site.redis_url)
        await append_payloads(server, site.shard, *[body()] * 3)
        await server.xreadgroup("store", "other-worker", {site.shard.stream: ">"}, count=1)
        await server.aclose()

    asyncio.run(append_entries())
    groups = site.json("stats")["groups"]
    assert [groups[name]["unread"] for name in ("log", "store")] == [3, 2]
    assert [groups[name]["pending"] for name in ("log", "store")] == [0, 1]
    assert [groups[name]["outstanding"] for name in ("log", "store")] == [3, 3]
    assert all(0 <= groups[name]["oldest_seconds"] < 60 for name in ("log", "store"))


def test_stats_count_entries_if_the_lag_is_unknown(site: StreamCommands) -> None:
    """After an XDEL ahead of a group its lag is unknown: `stats` counts entries and reports if the count is exact."""

    async def delete_ahead() -> None:
        server = connect.client(site.redis_url)
        await append_payloads(server, site.shard, *[body()] * 3)
        entries: Any = await server.xrange(site.shard.stream)
        await server.xdel(site.shard.stream, entries[-2][0])
        groups: Any = await server.xinfo_groups(site.shard.stream)
        assert all(group["lag"] is None for group in groups)
        await server.aclose()

    asyncio.run(delete_ahead())
    group = site.json("stats")["groups"]["store"]
    assert (group["unread"], group["unread_exact"]) == (2, True)


def test_dead_letters_are_listed_and_shown(site: StreamCommands) -> None:
    """`list` shows the reason, `show` the payload; long numbers are masked without --reveal."""
    rows = site.json("dead-letters", "list")["dead_letters"]
    assert [dead["group"] for dead in rows] == ["log", "store"]
    (row,) = site.json("dead-letters", "list", "--group", "store")["dead_letters"]
    assert set(row) == {"id", "group", "reason", "error", "attempts", "received_at"}
    assert (row["reason"], row["attempts"]) == ("invalid-status", 1)
    assert row["error"] == "no message_uuid, dispatch_uuid or messageId"
    (details,) = site.json("dead-letters", "show", row["id"], "--group", "store")["dead_letters"]
    assert details["payload"] == '{"note":"call ********0123"}'
    assert EntryId.from_text(details["origin"]).shard == 0
    (details,) = site.json("dead-letters", "show", row["id"], "--group", "store", "--reveal")["dead_letters"]
    assert details["payload"] == f'{{"note":"call {NUMBER}"}}'
    assert "invalid-status" in site.run("dead-letters", "list").output
    assert NUMBER not in site.run("dead-letters", "show", row["id"]).output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "0/1-1"), "no dead letter 0/1-1"),
        (("show", "1-1"), "write shard/ms-seq"),
        (("list", "--group", "nobody"), "no group 'nobody'; the groups are: log, store"),
    ],
)
def test_wrong_arguments_of_dead_letters_are_an_error(
    site: StreamCommands, arguments: tuple[str, ...], sentence: str
) -> None:
    """The command exits with 1 and names the fault."""
    result = site.run("dead-letters", *arguments)
    assert result.exit_code == 1
    assert sentence in str(result.exception)


def test_a_report_cannot_send_control_characters_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control and format characters of a value are printed escaped."""
    print_report({"url": "a\x1b[31mb\u202ec\r\n", "answered": {"\x9b": 1}, "latency_ms": None}, as_json=False)
    output = capsys.readouterr().out
    assert "a\\x1b[31mb\\u202ec\\r" in output
    assert all(line.isprintable() for line in output.split("\n"))


def test_stats_show_ages_and_the_oldest_records(
    site: StreamCommands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each place with an age has its oldest record; a database that is away takes away only its own figure."""
    with Archive(tmp_path).draft(site.shard) as draft:
        entry: Any = (b"1000-0", [b"payload", b"x"])
        draft.add([entry])
        draft.finish()
    ages = {"tables": "400d", "dead_letters": "90d", "archive": "30d", "quarantine": "1d"}
    monkeypatch.setenv("ACKSTREAM_ARCHIVE", str(tmp_path))
    for name, age in ages.items():
        monkeypatch.setenv(f"ACKSTREAM_{name.upper()}_RETENTION", age)
    retention = site.json("stats")["retention"]
    text = site.run("stats").output
    monkeypatch.setenv("ACKSTREAM_DATABASE_URL", f"sqlite:///{tmp_path / 'missing.db'}")
    (tmp_path / INDEX).rename(tmp_path / "old-index")
    (tmp_path / INDEX).mkdir()
    away = site.run("stats", "--json")

    assert {name: place["age"] for name, place in retention.items()} == {
        "stream": "7d",
        "history": None,
        "invalid": None,
        **ages,
    }
    assert retention["quarantine"]["oldest_seconds"] is None
    assert retention["archive"]["oldest_seconds"] > retention["tables"]["oldest_seconds"] > 6 * YEAR_SECONDS
    assert all(0 <= retention[name]["oldest_seconds"] < YEAR_SECONDS for name in ("stream", "dead_letters"))
    assert "dead letters" in text
    assert (away.exit_code, orjson.loads(away.stdout)["retention"]["tables"]["oldest_seconds"]) == (0, None)
    assert "tables cannot be read: no database at" in away.stderr
    assert f"archive cannot be read: {tmp_path / INDEX}" in away.stderr
