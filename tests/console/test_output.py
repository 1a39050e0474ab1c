"""Tables fit the terminal; with --json, standard output has only JSON."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from console.format import format_age, format_size, format_time
from console.output import print_json, print_pairs, print_rows
from console.time_args import parse_time_ms
from stream.keys import Shard
from stream.redis.client import client
from tests.support.commands import CommandResult, run_command
from tests.support.samples.events import RECEIVED_MS, body, entry
from tests.support.streams.retention import add, group, register
from worker.group.group_ref import GroupRef
from worker.replay.entry_filter import ALL
from worker.replay.job import Place, Replay
from worker.replay.repository import Replays

LISTS = ("groups list", "stats", "dead-letters list", "replay list", "quarantine list")
LONG = "a-group-with-a-name-as-long-as-people-give-them"
ENTRY = "1764000000000-12"


@pytest.fixture(scope="module")
def sample_shard(valkey_url: str) -> Shard:
    """A stream with entries for every list command."""
    shard = Shard(f"output-{secrets.token_hex(4)}")
    asyncio.run(_fill(valkey_url, shard))
    return shard


@pytest.fixture
def commands(valkey_url: str, sample_shard: Shard, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CommandResult]:
    """A function that runs a command on that stream."""
    monkeypatch.setenv("ACKSTREAM_REDIS_URL", valkey_url)
    monkeypatch.setenv("ACKSTREAM_STREAM", sample_shard.name)
    return run_command


async def _fill(url: str, shard: Shard) -> None:
    async with client(url) as server:
        await add(server, shard, range(1, 31))
        await group(server, shard, "store", read=20, ack=5)
        await group(server, shard, LONG)
        await register(server, shard, "store", LONG, "missing")
        await server.hset(shard.paused(LONG), mapping={"why": "failing", "since": "1", "tries": "0", "probe": "1"})
        for number in range(40):
            error = f"attempts: KeyError at orders.py:{number % 3 + 10} in on_status"
            errors = orjson.dumps([{"class": "KeyError", "place": "orders.py:10", "ms": RECEIVED_MS}] * 3)
            fields: Any = entry(body(), RECEIVED_MS, error=error, attempt=24).to_fields()
            error_fields: Any = {b"message": b"no order 447700900123", b"errors": errors}
            await server.xadd(shard.dead("store"), fields | error_fields, id=f"{1764000000000 + number}-12")
        await server.xadd(shard.dead("store"), {"payload": "foreign"}, id="1764000000999-0")
        await _start_replay(server, shard)
        refused: Any = entry(b"{}", RECEIVED_MS).to_fields() | {b"reason": b"signature"}
        await server.xadd(shard.quarantine, refused, id=ENTRY)


async def _start_replay(server: Redis, shard: Shard) -> None:
    replay = Replay(
        id="1f2e3d4c",
        group="store",
        place=Place.STREAM,
        selection=ALL,
        rate=500,
        begin="0-0",
        end="9-0",
        total=9,
        started_ms=1,
    )
    assert await Replays(GroupRef(server, shard, "store")).start(replay)


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("command", LISTS)
def test_no_line_is_wider_than_the_terminal(commands: Callable[..., CommandResult], command: str, columns: int) -> None:
    """Long names do not make lines wider than the terminal, at any width."""
    outcome = commands(*command.split(), columns=columns)
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout
    assert [line for line in outcome.stdout.splitlines() if len(line) > columns] == []


@pytest.mark.parametrize("columns", [40, 80])
def test_ids_are_never_cut_and_other_commands_accept_them(commands: Callable[..., CommandResult], columns: int) -> None:
    """Each id of a list works in the other commands."""
    table = commands("dead-letters", "list", columns=columns).stdout
    assert "0/1764000000039-12" in table
    assert commands("dead-letters", "show", "0/1764000000039-12").code == 0
    assert f"0/{ENTRY}" in commands("quarantine", "list", columns=columns).stdout
    assert commands("quarantine", "show", f"0/{ENTRY}").code == 0
    assert "1f2e3d4c" in commands("replay", "list", columns=columns).stdout
    assert commands("replay", "pause", "1f2e3d4c").code == 0
    assert commands("replay", "resume", "1f2e3d4c").code == 0
    assert LONG in "".join(commands("groups", "list", columns=columns).stdout.split())


@pytest.mark.parametrize(
    "command", [*LISTS, "dead-letters show 0/1764000000039-12", "replay plan", "groups resume store"]
)
def test_json_is_alone_on_standard_output(commands: Callable[..., CommandResult], command: str) -> None:
    """A program can parse all of standard output."""
    assert commands(*command.split(), "--json").json


def test_groups_resume_and_drop_have_json(
    commands: Callable[..., CommandResult], valkey_url: str, sample_shard: Shard
) -> None:
    """The JSON has the result and the losses; `drop` asks its question on standard error."""
    resumed = commands("groups", "resume", LONG, "--json").json
    assert resumed == {"group": LONG, "resumed": True, "reason": "failing"}
    assert commands("groups", "resume", LONG, "--json").json == {"group": LONG, "resumed": False, "reason": None}
    asyncio.run(_with(valkey_url, lambda server: server.xgroup_create(sample_shard.stream, "old", "0")))
    refused = commands("groups", "drop", "old", "--json", answer="n\n")
    assert (refused.code, refused.stdout) == (1, "")
    assert "30 unread entries" in refused.stderr
    dropped = commands("groups", "drop", "old", "--json", answer="y\n").json
    assert (dropped["dropped"], dropped["was"]["unread"]) == ("old", 30)


async def _with(url: str, act: Callable[[Redis], Awaitable[Any]]) -> Any:
    async with client(url) as server:
        return await act(server)


@pytest.mark.parametrize(
    "command", ["groups resume", "groups drop", "dead-letters list --group", "replay list --group"]
)
def test_a_group_that_does_not_exist_is_an_error(commands: Callable[..., CommandResult], command: str) -> None:
    """The error names the groups that exist."""
    assert "no group 'nobody'; the groups are: " in commands(*command.split(), "nobody").error


def test_dead_letters_are_counted_by_error(commands: Callable[..., CommandResult]) -> None:
    """All dead letters are counted by class and place of the error, most frequent first, even if few are listed."""
    listing = commands("dead-letters", "list", "--limit", "2", "--json").json
    assert len(listing["dead_letters"]) == 2
    assert listing["total"] == 41
    assert [(row["group"], row["reason"], row["error"], row["count"]) for row in listing["by_error"]] == [
        ("store", "attempts", "KeyError at orders.py:10 in on_status", 14),
        ("store", "attempts", "KeyError at orders.py:12 in on_status", 13),
        ("store", "attempts", "KeyError at orders.py:11 in on_status", 13),
        ("store", "", "", 1),
    ]
    table = commands("dead-letters", "list", "--limit", "2").stdout
    assert "the newest 2 of 41" in table
    assert "KeyError at orders.py:12" in table


def test_a_dead_letter_s_message_is_private(commands: Callable[..., CommandResult]) -> None:
    """`list` never shows the message, `show` only with --reveal; both show class and place of the error."""
    show = ("dead-letters", "show", "0/1764000000039-12")
    (hidden,) = commands(*show, "--json").json["dead_letters"]
    assert hidden["message"] is None
    assert "no order" not in commands(*show).stdout + commands("dead-letters", "list", "--json").stdout
    error = {"at": "2025-11-24T16:00:00+00:00", "class": "KeyError", "place": "orders.py:10"}
    assert hidden["errors"] == [error] * 3
    assert commands(*show).stdout.count(" KeyError at orders.py:10") == 4
    assert not {"message", "errors", "error", "attempt"} & hidden["fields"].keys()
    (revealed,) = commands(*show, "--reveal", "--json").json["dead_letters"]
    assert revealed["message"] == "no order 447700900123"
    assert "no order 447700900123" in commands(*show, "--reveal").stdout


def test_lists_have_no_microseconds(commands: Callable[..., CommandResult]) -> None:
    """Tables have ages and times to the second; only JSON has the exact time."""
    assert "ago" in commands("dead-letters", "list").stdout
    assert "00:00.000" not in commands("dead-letters", "show", "0/1764000000039-12").stdout


def test_a_table_that_is_too_wide_becomes_a_block_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Each value of a row is on a line of its own, and is not cut."""
    print_rows([{"id": "x" * 70, "name": "y" * 30, "count": 3}, {"id": "z", "name": "", "count": 4}])
    assert capsys.readouterr().out == f"id     {'x' * 70}\nname   {'y' * 30}\ncount  3\n\nid     z\ncount  4\n"


def test_the_last_column_is_folded_at_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers are aligned to the right, and wide characters count as two columns."""
    print_rows([{"count": 7, "text": "word " * 20}, {"count": 1234, "text": "漢字" * 30}])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("    7  word word")
    assert lines[3].startswith("       word")
    assert all(len(line) + sum(not character.isascii() for character in line) <= 80 for line in lines)
    assert "漢字" * 18 in lines[4]


def test_a_value_cannot_send_control_characters_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Tables and pairs show control and format characters escaped."""
    print_rows([{"a": "\x1b[31m", "b": "x\u202ey"}])
    print_pairs({"a": "\x1b[31m\r", "b\x9b": "x\u202ey"})
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))


def test_json_has_any_text(capsys: pytest.CaptureFixture[str]) -> None:
    """An argument that is not UTF-8 is in the output as an escape."""
    print_json({"url": "\udcff", "é": 1})
    assert json.loads(capsys.readouterr().out) == {"url": "\udcff", "é": 1}


def test_times_and_sizes_are_short() -> None:
    """Times and sizes have one unit, and --since accepts a printed time."""
    assert [format_age(seconds) for seconds in (0, 1.26, 45, 130, 7300, 200_000)] == [
        "0.0 s",
        "1.3 s",
        "45 s",
        "2 min",
        "2 h",
        "2 d",
    ]
    assert [format_size(number) for number in (0, 1023, 1536, 5 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
    text = format_time("2025-11-24T16:00:00.123456+00:00")
    assert text is not None
    assert len(text) <= 25
    assert parse_time_ms(text, 0) == RECEIVED_MS
