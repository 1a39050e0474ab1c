"""``ackstream dead-letters list|replay|discard``, beside a real worker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.samples.events import RECEIVED_MS, entry
from tests.support.workers.handled_entries import ENTRIES, HandledStream, handled, name
from tests.support.workers.recording import GROUP


@pytest.fixture
def site(valkey_url: str, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandledStream]:
    with handled(valkey_url, shard, tmp_path, monkeypatch) as site:
        yield site


def test_dead_letters_are_replayed_by_name(site: HandledStream) -> None:
    """Only with their scope named. They begin with attempt 1 again, and are dead letters once more if that fails."""
    before = site.json("dead-letters", "list", "--group", GROUP)["dead_letters"]
    assert [(one["reason"], one["attempts"]) for one in before] == [("attempts", 2)] * 2
    for arguments in ((), ("--all", "--reason", "attempts"), ("--id", "0/1-1")):
        assert site.run("dead-letters", "replay", "--group", GROUP, *arguments).exit_code == 1
    assert site.run("dead-letters", "replay", "--all").exit_code == 1
    told = site.json("dead-letters", "replay", "--group", GROUP, "--id", before[0]["id"])
    assert (told["state"], told["done"], told["scope"]) == ("done", 1, f"dead letters: id={before[0]['id']}")
    site.wait_for(lambda: dead(site) == 2)
    after = site.json("dead-letters", "list", "--group", GROUP)["dead_letters"]
    assert before[0] not in after
    assert before[1] in after
    again = [attempt for one, attempt, replayed in site.calls() if replayed and one == name(ENTRIES - 1)]
    assert again == ["1", "2"]
    assert site.json("dead-letters", "replay", "--group", GROUP, "--all")["done"] == 2
    site.wait_for(lambda: dead(site) == 2)
    assert site.json("replay", "run", "--dead", "--group", GROUP, "--message", name(ENTRIES - 2))["done"] == 1


def dead(site: HandledStream) -> int:
    """How many dead letters the group has once nothing is left to do."""
    return int(site.json("stats")["groups"][GROUP]["dead"]) if site.is_settled() else -1


def test_dead_letters_are_discarded_by_name(site: HandledStream) -> None:
    """Nothing without a scope; a log line tells how many, of which group and scope."""
    listed = site.json("dead-letters", "list")["dead_letters"]
    for arguments in ((), ("--group", GROUP)):
        refused = site.run("dead-letters", "discard", *arguments)
        assert refused.exit_code == 1
        assert "choose what to discard" in str(refused.exception)
    assert site.json("dead-letters", "discard", "--reason", "failed")["discarded"] == {GROUP: 0, "log": 0}
    assert site.json("dead-letters", "discard", "--until", "2025-11-25T14:00")["discarded"][GROUP] == 0
    result = site.run("dead-letters", "discard", "--group", GROUP, "--id", listed[0]["id"])
    assert "1 dead letters are discarded" in result.stdout
    assert f"scope='id={listed[0]['id']}' letters=1" in result.stderr
    assert site.json("dead-letters", "list")["dead_letters"] == listed[1:]
    assert site.json("dead-letters", "discard", "--since", "2025-11-25T14:00")["discarded"] == {GROUP: 1, "log": 0}


def test_dead_letters_are_listed_by_reason_and_time(site: HandledStream) -> None:
    """The newest first, as many as asked for, whatever stands between them."""
    key = site.shard.dead(GROUP)

    async def add(server: Redis) -> None:
        for number in range(600):
            error = "wanted: x" if number % 300 == 0 else "failed: x"
            fields: Any = entry(b"x", RECEIVED_MS + number, error=error, attempt=3).to_fields()
            await server.xadd(key, fields, id=f"{number + 1}-0")

    site.ask(lambda server: server.delete(key))
    site.ask(add)
    listed = site.json("dead-letters", "list", "--reason", "wanted")["dead_letters"]
    assert [one["id"] for one in listed] == ["0/301-0", "0/1-0"]
    assert len(site.json("dead-letters", "list", "--reason", "wanted", "--limit", "1")["dead_letters"]) == 1
    found = site.json("dead-letters", "list", "--until", "2025-11-24T16:00:00.002")["dead_letters"]
    assert [one["id"] for one in found] == ["0/2-0", "0/1-0"]
    assert len(site.json("dead-letters", "list")["dead_letters"]) == 20
