"""``ackstream dead-letters list|replay|discard`` with a real worker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from stream.keys import Shard
from tests.support.samples.events import RECEIVED_MS, entry
from tests.support.workers.handled_entries import ENTRIES, HandledStream, name, run_handled_stream
from tests.support.workers.recording import GROUP


@pytest.fixture
def site(valkey_url: str, shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandledStream]:
    with run_handled_stream(valkey_url, shard, tmp_path, monkeypatch) as site:
        yield site


def test_selected_dead_letters_are_replayed(site: HandledStream) -> None:
    """`replay` needs a group and a scope; the copies start at attempt 1 and become dead letters again if they fail."""
    before = site.json("dead-letters", "list", "--group", GROUP)["dead_letters"]
    assert [(row["reason"], row["attempts"]) for row in before] == [("attempts", 2)] * 2
    for arguments in ((), ("--all", "--reason", "attempts"), ("--id", "0/1-1")):
        assert site.run("dead-letters", "replay", "--group", GROUP, *arguments).exit_code == 1
    assert site.run("dead-letters", "replay", "--all").exit_code == 1
    replay = site.json("dead-letters", "replay", "--group", GROUP, "--id", before[0]["id"])
    assert (replay["state"], replay["done"], replay["scope"]) == ("done", 1, f"dead letters: id={before[0]['id']}")
    site.wait_for(lambda: dead(site) == 2)
    after = site.json("dead-letters", "list", "--group", GROUP)["dead_letters"]
    assert before[0] not in after
    assert before[1] in after
    attempts = [attempt for uuid, attempt, replayed in site.calls() if replayed and uuid == name(ENTRIES - 1)]
    assert (attempts[0], set(attempts[1:])) == ("1", {"2"})  # the last attempt repeats until another call succeeds
    assert site.json("dead-letters", "replay", "--group", GROUP, "--all")["done"] == 2
    site.wait_for(lambda: dead(site) == 2)
    assert site.json("replay", "run", "--dead", "--group", GROUP, "--message", name(ENTRIES - 2))["done"] == 1


def dead(site: HandledStream) -> int:
    """Return the number of dead letters of the group, or -1 while it has open work."""
    return int(site.json("stats")["groups"][GROUP]["dead"]) if site.is_settled() else -1


def test_selected_dead_letters_are_discarded(site: HandledStream) -> None:
    """`discard` needs a scope; a log line has the number, the group and the scope."""
    letters = site.json("dead-letters", "list")["dead_letters"]
    for arguments in ((), ("--group", GROUP)):
        refused = site.run("dead-letters", "discard", *arguments)
        assert refused.exit_code == 1
        assert "choose what to discard" in str(refused.exception)
    assert site.json("dead-letters", "discard", "--reason", "failed")["discarded"] == {GROUP: 0, "log": 0}
    assert site.json("dead-letters", "discard", "--until", "2025-11-25T14:00")["discarded"][GROUP] == 0
    result = site.run("dead-letters", "discard", "--group", GROUP, "--id", letters[0]["id"])
    assert "1 dead letters are discarded" in result.stdout
    assert f"scope='id={letters[0]['id']}' letters=1" in result.stderr
    assert site.json("dead-letters", "list")["dead_letters"] == letters[1:]
    assert site.json("dead-letters", "discard", "--since", "2025-11-25T14:00")["discarded"] == {GROUP: 1, "log": 0}


def test_dead_letters_are_listed_by_reason_and_time(site: HandledStream) -> None:
    """`list` shows the newest matching dead letters up to the limit, also with many others between them."""
    key = site.shard.dead(GROUP)

    async def add(server: Redis) -> None:
        for number in range(600):
            error = "rare: x" if number % 300 == 0 else "failed: x"
            fields: Any = entry(b"x", RECEIVED_MS + number, error=error, attempt=3).to_fields()
            await server.xadd(key, fields, id=f"{number + 1}-0")

    site.ask(lambda server: server.delete(key))
    site.ask(add)
    letters = site.json("dead-letters", "list", "--reason", "rare")["dead_letters"]
    assert [row["id"] for row in letters] == ["0/301-0", "0/1-0"]
    assert len(site.json("dead-letters", "list", "--reason", "rare", "--limit", "1")["dead_letters"]) == 1
    letters = site.json("dead-letters", "list", "--until", "2025-11-24T16:00:00.002")["dead_letters"]
    assert [row["id"] for row in letters] == ["0/2-0", "0/1-0"]
    assert len(site.json("dead-letters", "list")["dead_letters"]) == 20
