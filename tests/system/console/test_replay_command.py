"""``ackstream replay`` with a real worker whose handler records its calls."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from console.main import make_app
from console.queries import replay_progress
from console.time_args import parse_time_ms
from runtime.errors import CommandError
from stream.keys import Shard
from stream.redis import client as connect
from tests.support.processes import ackstream
from tests.support.samples.events import RECEIVED_MS
from tests.support.workers.handled_entries import ENTRIES, HOUR_MS, HandledStream, name, run_handled_stream
from tests.support.workers.recording import GROUP
from worker.retention.archive_writer import Archive
from worker.retention.pages import raw_ranges


@pytest.fixture
def site(valkey_url: str, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandledStream]:
    with run_handled_stream(valkey_url, shard, tmp_path, monkeypatch) as site:
        yield site


CHOICES: list[tuple[tuple[str, ...], Callable[[int], bool]]] = [
    ((), lambda _: True),
    (("--since", "2025-11-24T21:00"), lambda number: number >= 5),
    (("--until", "2025-11-24T21:00:00+00:00"), lambda number: number < 5),
    (("--since", "2025-11-24T18:00+01:00", "--until", "2025-11-24T21:00"), lambda number: 1 <= number < 5),
    (("--id", "0/1003-0", "--id", "0/1007-0", "--id", "3/1009-0"), lambda number: number in (3, 7)),
    (("--message", name(4), "--message", name(9)), lambda number: number in (4, 9)),
    (("--status", "read"), lambda number: number % 3 == 2),
    (("--status", "read", "--status", "submitted"), lambda number: number % 3 != 1),
    (("--channel", "whatsapp"), lambda number: number % 2 == 1),
    (("--account", "acme"), lambda number: number % 4 == 0),
    (("--channel", "sms", "--status", "read", "--since", "2025-11-25"), lambda number: number % 6 == 2 and number > 7),
    (("--since", "1h"), lambda _: False),
]


def test_each_filter_plans_and_replays_its_entries(site: HandledStream) -> None:
    """`plan` shows number, times and duration; the group gets only the selected entries, the other group none."""
    logged = len(site.worker.read_log("message.status"))
    for arguments, is_selected in CHOICES:
        selected = [number for number in range(ENTRIES) if is_selected(number)]
        plan = site.json("replay", "plan", *arguments, "--rate", "500")
        assert (plan["entries"], plan["seconds"]) == (len(selected), len(selected) / 500), arguments
        if selected:
            assert (plan["first_entry"], plan["last_entry"]) == (
                f"0/{1000 + selected[0]}-0",
                f"0/{1000 + selected[-1]}-0",
            )
            assert parse_time_ms(plan["first"], 0) == RECEIVED_MS + selected[0] * HOUR_MS
            assert plan["bytes"] > 100 * len(selected)
        before = site.count_replayed()
        run = site.json("replay", "run", "--group", GROUP, *arguments, "--rate", "500")
        assert run["total"] == len(selected), arguments
        site.wait_for(site.is_settled)
        assert set(site.count_replayed() - before) == {name(number) for number in selected}, arguments
        site.json("dead-letters", "discard", "--all")
    assert len(site.worker.read_log("message.status")) == logged
    replays = site.json("replay", "list")["replays"]
    assert {row["state"] for row in replays} == {"done"}
    assert len(replays) == len(CHOICES) - 1
    assert set(replays[0]) >= {"replay", "group", "state", "done", "total", "rate"}
    assert site.worker.read_log("replay.done")[0]["scope"] == "all"


def test_the_archive_is_replayed_with_the_stream(site: HandledStream) -> None:
    """Trimmed entries count only with --archive; an entry in stream and archive is planned and replayed once."""

    async def move_to_archive(server: Redis) -> None:
        entries: Any = await raw_ranges(server).xrange(site.shard.stream, "-", "1011-0")
        archive = Archive(site.folder / "archive")
        with archive.draft(site.shard) as draft:
            draft.add(entries)
            draft.finish()
        await server.xtrim(site.shard.stream, minid="1008-0", approximate=False)

    site.ask(move_to_archive)
    choice = ("--until", "2025-11-25T14:00")
    assert site.json("replay", "plan", *choice)["entries"] == ENTRIES - 2 - 8
    plan = site.json("replay", "plan", "--archive", *choice)
    assert (plan["entries"], plan["first_entry"]) == (ENTRIES - 2, "0/1000-0")
    run = site.json("replay", "run", "--archive", "--group", GROUP, *choice)
    assert (run["state"], run["done"]) == ("done", ENTRIES - 2)
    site.wait_for(site.is_settled)
    assert site.count_replayed() == Counter(name(number) for number in range(ENTRIES - 2))


def test_a_replay_is_paused_resumed_and_cancelled(site: HandledStream) -> None:
    """A paused replay copies nothing, a resumed one continues, and a cancelled one cannot be resumed."""
    started = site.json("replay", "run", "--group", GROUP, "--rate", "8", "--detach")
    assert started["total"] == ENTRIES
    replay = started["replay"]
    site.wait_for(lambda: state(site, replay)["done"] >= 3)
    paused = site.json("replay", "pause", replay)
    assert paused["state"] == "paused"
    site.wait_for(lambda: site.worker.read_log("replay.stopped"))
    copied = state(site, replay)["done"]
    assert 3 <= copied < ENTRIES
    assert "paused" in site.run("replay", "list").output
    assert site.json("replay", "resume", replay)["state"] == "running"
    site.wait_for(lambda: state(site, replay)["done"] > copied)
    assert site.json("replay", "cancel", replay)["state"] == "cancelled"
    site.wait_for(lambda: len(site.worker.read_log("replay.stopped")) == 2)
    copied = state(site, replay)["done"]
    refused = site.run("replay", "resume", replay)
    assert (refused.exit_code, str(refused.exception)) == (1, f"replay {replay} is cancelled already")
    site.wait_for(lambda: len(site.count_replayed()) == copied)
    assert set(site.count_replayed().values()) <= {1}
    groups = site.ask(lambda server: server.xinfo_groups(site.shard.stream))
    assert {row["name"] for row in groups} == {GROUP.encode(), b"log"}


def state(site: HandledStream, replay: str) -> Any:
    """Return the row of this replay in `list`."""
    return next(row for row in site.json("replay", "list", "--group", GROUP)["replays"] if row["replay"] == replay)


def test_the_list_shows_who_started_a_replay_its_reason_and_its_rate(site: HandledStream) -> None:
    """`rate` changes the rate of a replay that has not ended."""
    run = ("replay", "run", "--group", GROUP, "--rate", "0.1", "--detach", "--why", "new column")
    replay = site.json(*run)["replay"]
    row = state(site, replay)
    assert (row["rate"], row["started"]["why"], bool(row["started"]["by"])) == (0.1, "new column", True)
    assert "(new column)" in " ".join(site.run("replay", "list").stdout.split())
    assert site.json("replay", "rate", replay, "500")["rate"] == 500
    site.wait_for(lambda: state(site, replay)["state"] == "done")
    refused = site.run("replay", "rate", replay, "1")
    assert (refused.exit_code, str(refused.exception)) == (1, f"replay {replay} is done already")


def test_ctrl_c_leaves_a_replay_running(site: HandledStream) -> None:
    """Ctrl-C exits with 130 and prints that the replay continues; `resume --watch` watches it again."""
    settings = {"redis_url": site.url, "stream": site.shard.name}
    arguments = ("replay", "run", "--group", GROUP, "--rate", "4")
    with ackstream(*arguments, folder=site.folder, **settings) as command:
        site.wait_for(lambda: command.read_log("replay.started"))
        (started,) = command.read_log("replay.started")
        site.wait_for(lambda: state(site, started["replay"])["done"] > 0)
        command.send(signal.SIGINT)
        assert command.child.wait(10) == 130
        assert f"replay {started['replay']} continues without this command" in command.said
    assert state(site, started["replay"])["state"] == "running"
    watched = site.run("replay", "resume", started["replay"], "--watch")
    assert f"replay {started['replay']} is done: 24 of 24 copied" in watched.stdout


def test_a_replay_waits_for_a_worker(site: HandledStream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a worker the command prints that and exits; only copied entries are outstanding."""
    monkeypatch.setattr(replay_progress, "ALONE_SECONDS", 0.3)
    site.worker.kill()
    result = site.run("replay", "run", "--group", "log")
    assert result.exit_code == 0
    assert "no worker of the group copies it; it continues when a worker runs" in result.stdout
    site.ask(lambda server: server.xadd(site.shard.replay("log"), {"a": "b"}))
    log = site.json("stats")["groups"]["log"]
    assert (log["replays"], log["outstanding"]) == (1, 1)


def test_a_dropped_group_loses_its_replays(site: HandledStream, monkeypatch: pytest.MonkeyPatch) -> None:
    """`groups drop` removes the replays of the group and the groups that hold their entries."""
    monkeypatch.setattr(replay_progress, "ALONE_SECONDS", 0.1)
    site.worker.kill()
    site.json("replay", "run", "--group", "log", "--detach")
    groups = site.ask(lambda server: server.xinfo_groups(site.shard.stream))
    assert len(groups) == 3
    assert site.run("groups", "drop", "log", "--yes", "--force").exit_code == 0
    groups = site.ask(lambda server: server.xinfo_groups(site.shard.stream))
    assert [row["name"] for row in groups] == [GROUP.encode()]
    assert not site.ask(lambda server: server.exists(site.shard.replays("log")))
    assert site.run("replay", "run", "--group", "log").exit_code == 1


@pytest.mark.usefixtures("group_names")
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("run",), 1, "name the group that gets the entries with --group"),
        (("run", "--group", "nobody"), 1, "no group 'nobody'; the groups are: log, recorder"),
        (("plan", "--group", "nobody"), 1, "no group 'nobody'; the groups are: log, recorder"),
        (("list", "--group", "nobody"), 1, "no group 'nobody'"),
        (("run", "--group", "log", "--since", "1h", "--until", "2h"), 1, "--since must be before --until"),
        (("plan", "--since", "yesterday"), 1, "invalid time 'yesterday'"),
        (("plan", "--id", "1-1"), 1, "write shard/ms-seq"),
        (("run", "--group", "log", "--rate", "0"), 2, "Invalid value for '--rate'"),
        (("run", "--group", "log", "--rate", "nan"), 2, "Invalid value for '--rate'"),
        (("plan", "--dead"), 1, "name the group with --group"),
        (("plan", "--dead", "--archive", "--group", "log"), 1, "not both"),
        (("plan", "--archive"), 1, "set ACKSTREAM_ARCHIVE"),
        (("plan", "--until", "1d", "--since", "1d"), 1, "--since must be before --until"),
        (("pause", "nothing"), 1, "no replay 'nothing'"),
        (("resume", "nothing"), 1, "no replay 'nothing'"),
        (("cancel", "nothing"), 1, "no replay 'nothing'"),
    ],
)
def test_invalid_arguments_are_an_error(arguments: tuple[str, ...], code: int, sentence: str) -> None:
    """The error exits with 1, or with 2 for an option out of its range."""
    result = CliRunner().invoke(make_app(["replay"]), ["replay", *arguments])
    assert result.exit_code == code
    assert sentence in (str(result.exception) if code == 1 else result.output)
    assert code == 2 or isinstance(result.exception, CommandError)


@pytest.fixture
def group_names(valkey_url: str, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register two groups on an empty stream."""
    monkeypatch.setenv("ACKSTREAM_REDIS_URL", valkey_url)
    monkeypatch.setenv("ACKSTREAM_STREAM", shard.name)

    async def register() -> None:
        server = connect.client(valkey_url)
        await server.sadd(shard.groups, GROUP, "log")
        await server.aclose()

    asyncio.run(register())


def test_times_have_several_forms() -> None:
    """A time without a zone is UTC, and a number with a unit is an age."""
    for text in ("2025-11-24T16:00", "2025-11-24 16:00:00", "2025-11-24T17:00+01:00", "2025-11-24T16:00:00.000Z"):
        assert parse_time_ms(text, 0) == RECEIVED_MS
    assert parse_time_ms("2025-11-24", 0) == RECEIVED_MS - 16 * HOUR_MS
    assert [parse_time_ms(text, 10 * 86_400_000) for text in ("1s", "1m", "1h", "1d")] == [
        10 * 86_400_000 - unit for unit in (1000, 60_000, HOUR_MS, 86_400_000)
    ]
    assert parse_time_ms("9d", 5) == 0
    outside = ("1969-12-31", "0001-01-01T00:00+14:00", "9999-12-31T23:00-14:00")
    for text in ("", "h", "1w", "-1h", "12:00", "9999999999999", *outside):
        with pytest.raises(CommandError, match="invalid time"):
            parse_time_ms(text, 0)
