"""The durability of a 200: the server's settings decide whether ingest refuses to start, spools or warns."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.exceptions import ResponseError

from console.up.valkey import find_free_port
from ingest.append import pipeline
from ingest.append.server_checks import POLICY, REQUIRED, ServerChecks, ServerNotReady, find_shortcomings
from stream.keys import Shard
from tests.support.faults.redis_outages import ProxiedRedis, is_open, open_sender, read_metric, run_proxied_redis
from tests.support.faults.redis_server import block_by_script, limit_memory
from tests.support.in_process import answers, run_ingest
from tests.support.processes import Process, ackstream
from tests.support.waiting import until

START_SECONDS = 30.0


@pytest.fixture
async def away(tmp_path: Path, shard: Shard) -> AsyncIterator[ProxiedRedis]:
    async with run_proxied_redis(tmp_path / "valkey", shard) as away:
        yield away


def ingest(away: ProxiedRedis, folder: Path, **settings: str) -> Any:
    """A real process."""
    ports = {"port": str(find_free_port()), "admin_port": str(find_free_port())}
    return ackstream("ingest", folder=folder, signatures="off", **{**ports, **away.settings, **settings})


async def refusal(process: Process) -> str:
    """The one sentence with which it ends."""
    assert await process.wait_for_end(START_SECONDS) == 1
    (sentence,) = [line for line in process.said.splitlines() if not line.startswith("{")]
    assert sentence.startswith("ackstream: ")
    return sentence


async def test_a_busy_server_is_asked_again(away: ProxiedRedis) -> None:
    """A script that runs is not a missing right: the memory is checked once it has ended."""
    checks = ServerChecks(away.server, "stream")
    async with block_by_script(away):
        for check in (checks.check_memory, checks.check_durability):
            with pytest.raises(ResponseError, match="busy"):
                await check()
    async with limit_memory(1)(away):
        with pytest.raises(ServerNotReady):
            await checks.check_memory()


ENOUGH = {**REQUIRED, POLICY: "noeviction"}


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "volatile-ttl"])
def test_a_server_that_fsyncs_and_keeps_has_no_shortcoming(policy: str) -> None:
    """Policies that drop only what has a time to live cannot drop a stream."""
    assert find_shortcomings({**REQUIRED, POLICY: policy}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("appendonly", "no"),
        ("appendfsync", "everysec"),
        ("appendfsync", "no"),
        ("no-appendfsync-on-rewrite", "yes"),
        (POLICY, "allkeys-lru"),
        (POLICY, "allkeys-random"),
    ],
)
def test_each_shortcoming_is_named(name: str, value: str) -> None:
    """The text names each weak setting and its value. A missing setting counts as weak."""
    (phrase,) = find_shortcomings({**ENOUGH, name: value})
    assert phrase.startswith(f"{name} is {value}")
    (missing,) = find_shortcomings({key: is_ for key, is_ in ENOUGH.items() if key != name})
    assert missing.startswith(f"{name} is unknown")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("CONFIG SET", "appendonly", "no"), "appendonly is no, not yes"),
        (("CONFIG SET", "appendfsync", "everysec"), "appendfsync is everysec, not always"),
        (("CONFIG SET", "no-appendfsync-on-rewrite", "yes"), "no-appendfsync-on-rewrite is yes, not no"),
        (("CONFIG SET", POLICY, "allkeys-lru"), "maxmemory-policy is allkeys-lru"),
        (("ACL SETUSER", "default", "-config|get"), "may not read them: allow it CONFIG GET"),
        (("ACL SETUSER", "default", "-command"), "may not run COMMAND INFO"),
    ],
)
async def test_fsync_does_not_start_on_less(
    away: ProxiedRedis, tmp_path: Path, command: tuple[Any, ...], words: str
) -> None:
    """One sentence names what is missing, and the exit code is 1."""
    await away.run_command(*command)
    with ingest(away, tmp_path, ack="fsync") as process:
        assert words in await refusal(process)


async def test_fsync_does_not_start_without_redis(away: ProxiedRedis, tmp_path: Path) -> None:
    """It cannot know what a 200 would be worth: after a short wait it says so."""
    away.kill()
    with ingest(away, tmp_path, ack="fsync") as process:
        assert re.search(r"redis://127.0.0.1:\d+ does not answer \(ConnectionError\): start it", await refusal(process))


async def test_fsync_starts_on_a_server_that_fsyncs(away: ProxiedRedis, tmp_path: Path) -> None:
    """Ingest with fsync starts on a Redis that is set as compose and `ackstream up` set it."""
    with ingest(away, tmp_path, ack="fsync") as process:
        await process.has_logged("ingest.started")
        assert process.read_log("durability.full")


async def test_stream_does_not_start_on_a_server_that_is_too_old(away: ProxiedRedis, tmp_path: Path) -> None:
    """One that lacks a command, or does not let us ask: one sentence, exit code 1."""
    await away.run_command("ACL SETUSER", "default", "-command")
    with ingest(away, tmp_path) as process:
        assert "Ackstream needs Redis 7.0, Valkey 8, or later" in await refusal(process)


UNUSABLE: dict[str, tuple[tuple[Any, ...], str]] = {
    "another password": (("CONFIG SET", "requirepass", "another"), "check the user and the password"),
    "no right to append": (("ACL SETUSER", "default", "-xadd"), "the user's rights"),
    "no right to run scripts": (("ACL SETUSER", "default", "-evalsha"), "the user's rights"),
    "a key of another type": (("SET", "STREAM", "x"), "remove that key, which `ackstream doctor` names"),
}


@pytest.mark.parametrize("fault", UNUSABLE)
async def test_a_server_that_cannot_be_used_is_refused_at_the_start(
    away: ProxiedRedis, tmp_path: Path, fault: str
) -> None:
    """One sentence that says what to do, exit code 1: as for any other wrong setting, while the spool is empty."""
    command, words = UNUSABLE[fault]
    await away.run_command(*(away.shard.stream if word == "STREAM" else word for word in command))
    with ingest(away, tmp_path) as process:
        assert words in await refusal(process)


async def test_a_node_of_a_cluster_is_refused_at_the_start(away: ProxiedRedis, tmp_path: Path) -> None:
    """It would take entries only for the slots that it serves."""
    away.kill()
    with (tmp_path / "valkey" / "valkey.conf").open("a") as config:
        config.write(f"appendonly no\ncluster-enabled yes\ncluster-port {find_free_port()}\n")
    await away.valkey.start()
    with ingest(away, tmp_path) as process:
        assert "a node of a cluster" in await refusal(process)


async def test_with_entries_in_the_spool_a_wrong_password_does_not_stop_the_start(
    away: ProxiedRedis, tmp_path: Path
) -> None:
    """The log has an error with the next step, and a gauge shows the fault; with the right password all is drained."""
    away.kill()
    async with run_ingest(**away.settings, data=tmp_path / "data") as running, open_sender(running.url) as sender:
        assert await sender.posts(3) == [200] * 3
        stored = list(sender.accepted_ids)
    await away.start()
    password = (await away.server.config_get("requirepass"))["requirepass"]
    await away.run_command("CONFIG SET", "requirepass", "another")
    admin_port = find_free_port()
    with ingest(away, tmp_path, admin_port=str(admin_port), data=str(tmp_path / "data")) as process:
        await process.is_ready(admin_port)
        await process.has_logged("redis.down")  # a thread writes the log, perhaps after the answer of /ready
        (line,) = process.read_log("redis.down")
        assert (line["level"], line["why"]) == ("error", "denied")
        assert "password" in line["what"]
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{admin_port}/metrics") as answer:
            assert 'ackstream_redis_down{fault="denied"} 1.0' in await answer.text()
        await away.run_command("CONFIG SET", "requirepass", password)
        await away.has(stored)


async def test_stream_warns_and_starts(away: ProxiedRedis, tmp_path: Path) -> None:
    """On a server that may drop the stream and does not fsync: one line says all of it; a 200 is worth no more."""
    await away.run_command("CONFIG SET", POLICY, "allkeys-lru", "appendfsync", "everysec")
    with ingest(away, tmp_path) as process:
        await process.has_logged("ingest.started")
        (line,) = process.read_log("durability.short")
        assert line["level"] == "error"
        assert "appendfsync is everysec, not always; maxmemory-policy is allkeys-lru" in line["redis"]


async def test_a_change_is_told_once(
    away: ProxiedRedis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found while it runs, in a minute at most: a warning, and when all is well again a word of that too."""
    monkeypatch.setattr(pipeline, "DURABILITY_SECONDS", 0.1)
    async with run_ingest(**away.settings) as running, open_sender(running.url) as sender:
        await away.run_command("CONFIG SET", "appendfsync", "no")
        await until(lambda: durable(is_=0))
        await until(lambda: has_checked_again(away))
        assert await sender.posts(3) == [200] * 3
        assert read_metric("breaker_state") == 0
        await away.run_command("CONFIG SET", "appendfsync", "always")
        await until(lambda: durable(is_=1))
    output = capsys.readouterr().out
    assert output.count("durability.short") == 1
    assert output.count("durability.full") == 2


async def durable(*, is_: int) -> bool:
    return read_metric("redis_durable") == is_


async def has_checked_again(away: ProxiedRedis) -> bool:
    await away.run_command("CONFIG RESETSTAT")

    async def is_asked() -> bool:
        return "cmdstat_config|get" in await away.server.info("commandstats")

    await until(is_asked)
    return True


async def test_what_is_not_fsynced_any_more_is_spooled(away: ProxiedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fsync, entries go to the spool from the moment at which ingest finds the setting of Redis too weak."""
    monkeypatch.setattr(pipeline, "DURABILITY_SECONDS", 0.1)
    async with run_ingest(**away.settings, ack="fsync") as running, open_sender(running.url) as sender:
        assert await sender.posts(3) == [200] * 3
        await away.run_command("CONFIG SET", "appendfsync", "everysec")
        await until(lambda: durable(is_=0))
        before = read_metric("spooled_entries_total", why="durability")
        assert await sender.posts(3) == [200] * 3
        assert await answers(running.ready_url, 200)
        assert read_metric("spooled_entries_total", why="durability") - before == 3
        assert len(await away.ids()) == 3
        await away.run_command("CONFIG SET", "appendfsync", "always")
        await away.has(sender.accepted_ids)
        await is_open()


async def test_a_server_that_comes_back_weaker_is_found_at_once(away: ProxiedRedis) -> None:
    """With fsync ingest reads the settings of Redis on every reconnect, before it sends an entry."""
    async with run_ingest(**away.settings, ack="fsync") as running, open_sender(running.url) as sender:
        assert await sender.post() == 200
        away.proxy.refuses = True
        away.proxy.cut()
        assert await sender.post() == 200
        await away.run_command("CONFIG SET", "appendfsync", "everysec")
        away.proxy.refuses = False
        await until(lambda: durable(is_=0))
        assert await sender.posts(3) == [200] * 3
        assert len(await away.ids()) == 1
        await away.run_command("CONFIG SET", "appendfsync", "always")
        await away.has(sender.accepted_ids)


async def test_with_few_rights_it_works_and_knows_less(away: ProxiedRedis, capsys: pytest.CaptureFixture[str]) -> None:
    """Without CONFIG GET and INFO durability and memory are unknown: one warning, no more questions."""
    await away.run_command("ACL SETUSER", "default", "-config", "-info")
    async with run_ingest(**away.settings) as running, open_sender(running.url) as sender:
        assert await sender.posts(3) == [200] * 3
        assert await durable(is_=0)
    assert capsys.readouterr().out.count("CONFIG GET is denied") == 1
