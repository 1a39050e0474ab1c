"""The commands that look, on what a real worker left behind."""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from console.__main__ import main
from console.main import app
from console.simulate.report import print_report
from runtime.errors import Refusal
from stream.entry import EntryId
from stream.keys import Shard
from stream.redis import client as connect
from tests.support.in_process import working
from tests.support.samples.events import body
from tests.support.waiting import until
from tests.worker.test_worker import append, settled
from worker.store.migrate import migrate_at

NUMBER = "447700900123"


@dataclass(frozen=True, slots=True)
class Site:
    """Where commands look."""

    redis_url: str
    shard: Shard

    def run(self, *arguments: str) -> Result:
        """Run one command."""
        return CliRunner().invoke(app, arguments)

    def json(self, *arguments: str) -> Any:
        """Run one command with --json, which has to succeed."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return orjson.loads(result.output)


@pytest.fixture
def site(valkey_url: str, shard: Shard, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Two statuses of one message, and one payload that is no status, all processed."""
    settings = {"redis_url": valkey_url, "stream": shard.name, "database_url": database_url}

    async def prepare() -> None:
        await migrate_at(database_url)
        server = connect.client(valkey_url)
        common = {"to": NUMBER, "from": "AcmeInc", "client_ref": "order-7"}
        sent = {
            "status": "submitted",
            "timestamp": "2020-01-01T14:00:00Z",
            "usage": {"price": "0.0330", "currency": "EUR"},
        }
        await append(server, shard, body(**common, **sent), body(**common, timestamp="2020-01-01T14:00:01.5Z"))
        await append(server, shard, b'{"note":"call %s"}' % NUMBER.encode())
        async with working(**settings):
            await until(lambda: settled(server, shard, "store", "log"))
        await server.aclose()

    asyncio.run(prepare())
    for name, value in settings.items():
        monkeypatch.setenv(f"ACKSTREAM_{name.upper()}", value)
    return Site(valkey_url, shard)


def test_trace_tells_a_message_and_its_events(site: Site) -> None:
    """State, times of each status, and every event; of numbers the last four digits unless --reveal."""
    found = site.json("trace", "m-1")
    events = found.pop("events")
    assert found.pop("history") == []
    assert found == {
        "message_uuid": "m-1",
        "account": None,
        "application": None,
        "status": "delivered",
        "channel": "sms",
        "to": "********0123",
        "from": "AcmeInc",
        "client_ref": "order-7",
        "error_code": None,
        "price": "0.0330",
        "currency": "EUR",
        "statuses": {"submitted": "2020-01-01T14:00:00+00:00", "delivered": "2020-01-01T14:00:01.500000+00:00"},
    }
    known = {"event_id", "status", "occurred_at", "received_at", "entry", "query"}
    assert [set(event) for event in events] == [known] * 2
    assert [event["status"] for event in events] == ["submitted", "delivered"]
    assert EntryId.from_text(events[0]["entry"]) < EntryId.from_text(events[1]["entry"])
    assert site.json("trace", "m-1", "--reveal")["to"] == NUMBER
    table = site.run("trace", "m-1")
    assert "delivered at" in table.output
    assert NUMBER not in table.output


def test_trace_of_an_unknown_message_exits_with_1(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says in a sentence where it looked."""
    result = site.run("trace", "nobody")
    assert (result.exit_code, type(result.exception)) == (1, Refusal)
    monkeypatch.setattr("sys.argv", ["ackstream", "trace", "nobody"])
    with pytest.raises(SystemExit, match="ackstream: no message 'nobody' in "):
        main()


def test_stats_tell_what_each_group_has_to_do(site: Site) -> None:
    """Everything is read and acked here, and one entry of each group is dead."""
    waiting = {"unread": 0, "unread_exact": True, "pending": 0, "retries": 0, "replays": 0}
    group = waiting | {"dead": 1, "paused": None, "outstanding": 0}
    idle = group | {"oldest_seconds": None}
    found = site.json("stats")
    assert found["groups"] == {"log": idle, "store": idle}
    assert [(shard["shard"], shard["length"]) for shard in found["shards"]] == [(0, 3)]
    assert "store" in site.run("stats").output


def test_stats_count_what_is_left_and_how_old_it_is(site: Site) -> None:
    """Entries that nobody has read yet and one that is in hand count as outstanding, from the oldest on."""

    async def leave_some() -> None:
        server = connect.client(site.redis_url)
        await append(server, site.shard, *[body()] * 3)
        await server.xreadgroup("store", "somebody", {site.shard.stream: ">"}, count=1)
        await server.aclose()

    asyncio.run(leave_some())
    groups = site.json("stats")["groups"]
    assert [groups[name]["unread"] for name in ("log", "store")] == [3, 2]
    assert [groups[name]["pending"] for name in ("log", "store")] == [0, 1]
    assert [groups[name]["outstanding"] for name in ("log", "store")] == [3, 3]
    assert all(0 <= groups[name]["oldest_seconds"] < 60 for name in ("log", "store"))


def test_stats_count_themselves_where_the_server_gives_no_lag(site: Site) -> None:
    """After an XDEL ahead of a group the server's lag is unknown: entries are counted, and it says so when exact."""

    async def delete_ahead() -> None:
        server = connect.client(site.redis_url)
        await append(server, site.shard, *[body()] * 3)
        entries: Any = await server.xrange(site.shard.stream)
        await server.xdel(site.shard.stream, entries[-2][0])
        groups: Any = await server.xinfo_groups(site.shard.stream)
        assert all(group["lag"] is None for group in groups)
        await server.aclose()

    asyncio.run(delete_ahead())
    group = site.json("stats")["groups"]["store"]
    assert (group["unread"], group["unread_exact"]) == (2, True)


def test_dead_letters_are_listed_and_shown(site: Site) -> None:
    """The list has the reason; the whole has the payload, long numbers masked unless --reveal."""
    listed = site.json("dead-letters", "list")["dead_letters"]
    assert [dead["group"] for dead in listed] == ["log", "store"]
    (one,) = site.json("dead-letters", "list", "--group", "store")["dead_letters"]
    assert set(one) == {"id", "group", "reason", "error", "attempts", "received_at"}
    assert (one["reason"], one["attempts"]) == ("invalid-status", 1)
    assert one["error"] == "no message_uuid, dispatch_uuid or messageId"
    (whole,) = site.json("dead-letters", "show", one["id"], "--group", "store")["dead_letters"]
    assert whole["payload"] == '{"note":"call ********0123"}'
    assert EntryId.from_text(whole["origin"]).shard == 0
    (whole,) = site.json("dead-letters", "show", one["id"], "--group", "store", "--reveal")["dead_letters"]
    assert whole["payload"] == f'{{"note":"call {NUMBER}"}}'
    assert "invalid-status" in site.run("dead-letters", "list").output
    assert NUMBER not in site.run("dead-letters", "show", one["id"]).output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "0/1-1"), "no dead letter 0/1-1"),
        (("show", "1-1"), "one is written shard/ms-seq"),
        (("list", "--group", "nobody"), "no group 'nobody'; the groups are: log, store"),
    ],
)
def test_a_wrong_question_about_dead_letters_is_told(site: Site, arguments: tuple[str, ...], sentence: str) -> None:
    """Exit code 1 and a sentence."""
    result = site.run("dead-letters", *arguments)
    assert result.exit_code == 1
    assert sentence in str(result.exception)


def test_what_a_table_shows_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control and format characters of whoever wrote a value are shown escaped."""
    print_report({"url": "a\x1b[31mb\u202ec\r\n", "answered": {"\x9b": 1}, "latency_ms": None}, as_json=False)
    shown = capsys.readouterr().out
    assert "a\\x1b[31mb\\u202ec\\r" in shown
    assert all(line.isprintable() for line in shown.split("\n"))
