"""Looks at commands and pages while the node of shards 1 and 2 is away: the other shards are 0 and 3."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.options import ServerOptions
from runtime.errors import CommandError
from stream.keys import Shard
from tests.support.commands import CommandResult, run_command
from tests.support.http.console_server import Visitor
from tests.support.persons.dump import dump_redis
from tests.support.servers.clusters import Member, RedisCluster
from tests.support.waiting import until

READING = (("groups", "list"), ("dead-letters", "list"), ("invalid", "list"), ("replay", "list"), ("trace", "m-stored"))
"""The commands that show the other shards."""
FORM = {"expected": "2", "why": "a test"}
PAGE_SECONDS = 1.0


async def hold(check: Callable[[], Awaitable[None]]) -> None:
    """Repeat a check until it passes: on a machine that stalls, the other nodes may miss a time limit, too."""

    async def is_right() -> bool:
        try:
            await check()
        except (AssertionError, ValueError, LookupError):
            return False
        return True

    with suppress(AssertionError):
        await until(is_right)
        return
    await check()  # shows the assertion that failed


async def run(*arguments: str) -> CommandResult:
    """Run a command in a thread, because it has an event loop of its own."""
    return await asyncio.to_thread(run_command, *arguments)


async def check_reading(group: str, node: str) -> None:
    """Each command shows the other shards, then names the node with the reason and the next step, and exits with 1."""
    away = [{"shard": number, "node": node, "reason": "Connection refused"} for number in (1, 2)]
    shown: dict[str, Any] = {}
    for words in READING:
        people, result = await run(*words), await run(*words, "--json")
        shown[words[0]] = orjson.loads(result.stdout)
        assert shown[words[0]]["away"] == away, words
        assert people.stdout, words
        for each in (people, result):
            assert f"Node {node} does not answer for shards 1 and 2 (Connection refused)" in each.error, words
            assert "redis-cli --cluster check" in each.error, words
    assert [line["unread"] for line in shown["groups"]["groups"]] == [2]
    assert {letter["id"][:2] for letter in shown["dead-letters"]["dead_letters"]} == {"0/", "3/"}
    assert (shown["dead-letters"]["total"], shown["invalid"]["entries"]) == (2, 2)
    webhooks = shown["trace"]["timeline"]["webhooks"]
    assert {hook["entry"][:2]: hook["is_on_stream"] for hook in webhooks} == {
        "0/": False,
        "1/": None,
        "2/": None,
        "3/": False,
    }
    [here] = [line["id"] for line in shown["invalid"]["invalid"] if line["id"].startswith("3/")]
    await check_entries(group, node, here)


async def check_entries(group: str, node: str, here: str) -> None:
    """An entry is shown if its own shard answers; an export has what the other shards have."""
    assert (await run("invalid", "show", here)).code == 0
    for words in (("invalid", "show", "1/1-0"), ("dead-letters", "show", "1/1-0", "--group", group)):
        assert f"Node {node} does not answer for shard 1 (Connection refused)" in (await run(*words)).error
    assert (await run("quarantine", "list", "--json")).json == {"quarantine": []}  # it is on shard 0
    exported = await run("export", "--message", "m-3")
    places = [orjson.loads(line)["place"] for line in exported.stdout.splitlines()]
    assert sorted(places) == ["dead_letters", "invalid", "stream"]
    assert f"Node {node} does not answer for shards 1 and 2" in exported.error


async def check_acts(group: str, node: str, others: Sequence[Member]) -> None:
    """Acts that need all shards are refused before they change anything; a pause needs shard 0 only."""
    before = [await dump_redis(member.server) for member in others]
    for words in (
        ("invalid", "discard", "--all", "--yes"),
        ("invalid", "replay", "--all"),
        ("dead-letters", "discard", "--all"),
        ("dead-letters", "replay", "--group", group, "--all", "--detach"),
        ("replay", "plan"),
        ("replay", "run", "--group", group, "--detach"),
        ("groups", "drop", group, "--yes", "--force"),
        ("shards", "set", "5"),  # shard 4 would be with shard 0
        ("erase", "--message", "m-3", "--yes"),
    ):
        error = (await run(*words)).error
        assert f"Node {node} does not answer for shards 1 and 2" in error, words
        assert "this needs all shards, and nothing was done" in error, words
    assert [await dump_redis(member.server) for member in others] == before
    for words in (("groups", "pause", group, "--why", "a test"), ("groups", "resume", group)):
        assert (await run(*words)).code == 0, words


async def check_web_acts(person: Visitor, group: str, node: str, others: Sequence[Member]) -> None:
    """The console refuses them, too, and names the shard of an entry that it cannot show."""
    before = [await dump_redis(member.server) for member in others]
    entries: dict[str, Any] = {"expected": 2, "why": "a test"}
    for path, values in (
        ("invalid/discard", entries),
        ("invalid/replay", entries),
        ("dead-letters/discard", {**entries, "group": group}),
        ("dead-letters/replay", {**entries, "group": group}),
        ("replays", {**entries, "group": group}),
        (f"groups/{group}/drop", {"typed": group, "why": "a test"}),
    ):
        answer = await person.post(f"/api/v1/{path}", json=values)
        assert answer.status == 503, path
        assert f"Node {node} does not answer for shards 1 and 2" in answer.json()["error"], path
        assert "Nothing was done: this needs all shards." in answer.json()["error"], path
    assert [await dump_redis(member.server) for member in others] == before
    letter = await person.get(f"/api/v1/dead-letters/letter?group={group}&id=1/1-0")
    assert (letter.status, "This needs shard 1." in letter.json()["error"]) == (503, True)
    assert "Nothing was done: this needs all shards." in (await person.post("/invalid/discard", FORM)).text


async def check_frozen(person: Visitor, member: Member, paths: Sequence[str]) -> None:
    """Each page names the node and is shown within a second, the first one at once after the node froze."""
    await until(lambda: is_whole(person))
    seconds = {}
    member.node.process.send(signal.SIGSTOP)
    try:
        for path in paths:
            started = time.monotonic()
            page = await person.get(path)
            seconds[path] = time.monotonic() - started
            assert page.status == 200, path
            assert f"Node {member.address} does not answer for shards 1 and 2 (no answer within the limit)" in page.text
    finally:
        member.node.process.send(signal.SIGCONT)
    assert max(seconds.values()) < PAGE_SECONDS, seconds


async def check_busy(person: Visitor, member: Member) -> None:
    """A node that executes no command while a script runs is named like one that is away."""
    await member.ask("CONFIG", "SET", "busy-reply-threshold", "1")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_run_script(member))

        async def has_answer() -> bool:
            with suppress(RedisError):
                await member.ask("EXISTS", "key")
                return False
            return True

        await until(has_answer)
        answers = [(await person.get(f"/api/v1/{path}")).json()["away"] for path in ("groups", "invalid")]
        listed = await run("groups", "list")
        findings = orjson.loads((await run("doctor", "--no-probe", "--json")).stdout)["findings"]
        await member.ask("SCRIPT KILL")
    assert [[(each["shard"], each["reason"][:5]) for each in away] for away in answers] == [
        [(1, "BUSY "), (2, "BUSY ")]
    ] * 2
    assert f"Node {member.address} does not answer for shards 1 and 2 (BUSY " in listed.error
    whats = {finding["id"]: finding["what"] for finding in findings}
    assert member.address in whats["redis.node-away"]
    assert not {"check.failed", "redis.hidden", "redis.unusable"} & set(whats)


async def _run_script(member: Member) -> None:
    with suppress(RedisError):
        await member.ask("EVAL", "while true do end", 0)


async def check_lost_pages(person: Visitor, member: Member, paths: Sequence[str]) -> None:
    """Pages that are being read while the node dies name it, or show the other shards; none says that Redis is away."""
    answers: list[tuple[int, str]] = []

    async def load(path: str) -> None:
        while len(answers) < enough:
            answer = await person.get(f"/api/v1/{path}")
            answers.append((answer.status, "" if answer.status == 200 else answer.json()["error"]))

    enough = 20 * len(paths)
    async with asyncio.TaskGroup() as tasks:
        for path in [*paths] * 3:
            tasks.create_task(load(path))
        await until(lambda: has_more(answers, enough // 2))
        member.node.kill()
    assert {error for status, error in answers if f"Node {member.address} does not answer for" not in error} <= {""}
    assert {status for status, _ in answers} <= {200, 503}


async def has_more(answers: Sequence[object], number: int) -> bool:
    """Whether there are more answers than this number."""
    return len(answers) > number


def ask_and_lose(member: Member, *, shows_others: bool) -> tuple[Sequence[Sequence[int]], str]:
    """Kill the node after it was asked for its shards. Return the shards of each question, and the error."""
    asked: list[Sequence[int]] = []

    async def question(server: Redis, shards: Sequence[Shard]) -> None:
        asked.append([shard.number for shard in shards])
        if len(asked) == 1:
            member.node.kill()
        for shard in shards:
            await server.exists(shard.stream)

    options = ServerOptions()
    try:
        if shows_others:
            with options.read(question):
                pass
        else:
            options.ask(question)
    except CommandError as exc:
        return asked, str(exc)
    return asked, ""


async def check_lost(cluster: RedisCluster, member: Member) -> None:
    """A query shows the other shards, and an act says that a part may be done, if a node dies after it has answered."""
    every = [0, 1, 2, 3]
    for shows_others, questions, words in (
        (True, [every, [0, 3]], "the output is that of the other shards"),
        (False, [every], "a part of the work may be done"),
    ):
        asked, error = await asyncio.to_thread(ask_and_lose, member, shows_others=shows_others)
        assert asked == questions
        assert f"Node {member.address} does not answer for shards 1 and 2" in error
        assert words in error
        await member.node.start()
        await until(cluster.agree)


async def is_whole(person: Visitor) -> bool:
    """Whether the console reaches all shards."""
    answer = await person.get("/api/v1/groups")
    return answer.status == 200 and not answer.json()["away"]
