"""The pages of a console over a stream with three shards."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from console.queries import replays
from console.queries.shards import set_shards
from console.web.access.roles import Role
from console.web.metrics.gauges import REGISTRY
from stream.keys import Shard
from stream.settings import StreamSettings
from tests.support.databases import make_sqlite
from tests.support.http.console_server import ConsoleServer, Visitor, run_console
from tests.support.samples.events import RECEIVED_MS, body, entry, event
from tests.support.streams.causes import add_dead
from tests.support.streams.stored_messages import store_events
from tests.support.waiting import until
from worker.group.consumer_group import create_group
from worker.group.group_ref import GroupRef
from worker.replay.job import State
from worker.replay.repository import Replays

STATUSES = ("submitted", "delivered", "read")
WHY = "asked by ann"


@pytest.fixture
async def shards(server: Redis, shard: Shard, tmp_path: Path) -> list[Shard]:
    """Shards with one status of a message each, unread by the group, and one, two and three dead letters."""
    url, events = make_sqlite(tmp_path / "ackstream.db"), []
    await set_shards(server, StreamSettings(stream=shard.name), len(STATUSES))
    shards = [Shard(shard.name, number) for number in range(len(STATUSES))]
    for each, status in zip(shards, STATUSES, strict=True):
        payload, received_ms = body(message_uuid="m-1", status=status), RECEIVED_MS + each.number
        fields: Any = entry(payload, received_ms).to_fields()
        entry_id: Any = await server.xadd(each.stream, fields)
        events.append(event(payload, received_ms, f"{each.number}/{entry_id.decode()}"))
        await create_group(GroupRef(server, each, "g"))
        await add_dead(server, each, "g", each.number + 1)
    await store_events(url, events)
    return shards


@pytest.fixture
async def console(valkey_url: str, shards: list[Shard], tmp_path: Path) -> AsyncIterator[ConsoleServer]:
    settings = {"database_url": f"sqlite:///{tmp_path / 'ackstream.db'}"}
    async with run_console(tmp_path, valkey_url, shards[0].name, **settings) as running:
        yield running


@pytest.fixture
async def person(console: ConsoleServer) -> AsyncIterator[Visitor]:
    """An admin of the console."""
    async with console.visit(Role.ADMIN) as person:
        yield person


async def read(person: Visitor, path: str) -> Any:
    """Return the twin of a page."""
    return (await person.get(f"/api/v1/{path}")).json()


async def test_each_page_has_what_is_on_all_shards(person: Visitor) -> None:
    """Overview and the figures of the alerts are sums; Messages and Dead letters have the entries of each shard."""

    async def has_sampled_all() -> bool:
        labels = {"group": "g"}
        figures = [REGISTRY.get_sample_value(f"ackstream_{name}", labels) for name in ("outstanding", "dead_letters")]
        return figures == [3, 6]

    await until(has_sampled_all)
    overview = await read(person, "overview")
    message = await read(person, "messages/m-1")
    letters = await read(person, "dead-letters?group=g")
    groups = await read(person, "groups")
    waiting = await read(person, "groups/g/outstanding")

    assert overview["flow"]["redis"]["entries"] == 3
    assert [(group["outstanding"], group["dead"]) for group in overview["groups"]] == [(3, 6)]
    on_stream = [(webhook["entry"][:2], webhook["status"]) for webhook in message["webhooks"] if webhook["is_stored"]]
    assert on_stream == list(zip(("0/", "1/", "2/"), STATUSES, strict=True))
    assert letters["total"] == 6
    (row,) = groups["groups"]
    assert (row["unread"], row["dead"], row["kept"]["entries"], waiting) == (3, 6, 3, {"outstanding": 3})

    (cause,) = letters["causes"]
    opened = await read(person, f"dead-letters?group=g&cause={cause['cause']}")
    assert {letter["id"][:2] for letter in opened["cause"]["letters"]} == {"0/", "1/", "2/"}


async def test_a_replay_of_the_console_runs_on_all_shards(server: Redis, shards: list[Shard], person: Visitor) -> None:
    """It counts the entries of all shards, and the page moves its parts on all shards together."""
    form = {"group": "g", "rate": "20", "expected": "3", "why": "a new column"}
    assert "Start: 3 to g" in await person.get_plan("group=g&rate=20")
    assert (await person.post("/replays", form)).status == 303

    (replay,) = (await read(person, "replays"))["replays"]
    await person.post(f"/replays/{replay['replay']}/pause")
    (paused,) = (await read(person, "replays"))["replays"]

    assert (replay["state"], replay["done"], replay["total"], replay["rate"]) == ("running", 0, 3, 20)
    assert paused["state"] == "paused"
    parts = [await Replays(GroupRef(server, each, "g")).find(replay["replay"]) for each in shards]
    assert [part and (part.state, part.replay.total) for part in parts] == [(State.PAUSED, 1)] * 3


async def read_interruption(console: ConsoleServer, action: str) -> str:
    """Return the result of the only entry of this action, which has the person and the reason."""
    [row] = await console.read_audit(action)
    assert (row["who"][:5], row["why"]) == ("link:", WHY)
    return str(row["result"])


@pytest.mark.parametrize(
    ("action", "path", "form"),
    [
        ("replays.start", "/replays", {"group": "g", "rate": "20", "expected": "3"}),
        ("messages.replay", "/messages/m-1/replay", {"group": "g", "expected": "3"}),
    ],
)
async def test_a_replay_that_starts_on_some_shards_only_is_recorded(
    server: Redis,
    shards: list[Shard],
    console: ConsoleServer,
    person: Visitor,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
    path: str,
    form: dict[str, str],
) -> None:
    """The page and the audit log name the replay, the shards that have it, and the command that ends it."""
    monkeypatch.setattr(replays, "_make_id", lambda: "abcdef12")
    await person.get_plan("group=g&rate=20")
    await server.xgroup_create(shards[1].stream, "replay/abcdef12")

    answer = await person.post(path, {**form, "why": WHY})

    assert answer.status == 503
    for text in (answer.text, await read_interruption(console, action)):
        assert "replay abcdef12 has started on shard 0 only (BUSYGROUP" in text
        assert "ackstream replay cancel abcdef12" in text


async def test_a_replay_to_a_group_that_a_shard_lacks_is_recorded(
    server: Redis, shards: list[Shard], console: ConsoleServer, person: Visitor
) -> None:
    """Parts have started before the shard without the group is reached: the answer is not that nothing was done."""
    await server.srem(shards[0].groups, "g")
    form = {"group": "g", "expected": 6, "why": WHY}

    answer = await person.post("/api/v1/dead-letters/replay", json=form)

    assert answer.status == 503
    assert "only (no group 'g' is registered" in answer.json()["error"]
    assert "only (no group 'g' is registered" in await read_interruption(console, "dead-letters.replay")
    parts = [await Replays(GroupRef(server, each, "g")).all() for each in shards]
    assert [len(part) for part in parts] == [0, 1, 1]


async def test_a_drop_that_ends_in_the_middle_is_recorded_and_can_be_repeated(
    server: Redis, shards: list[Shard], console: ConsoleServer, person: Visitor
) -> None:
    """The shard with the fault keeps the group whole, so that the second drop finds and removes it."""
    await server.set(shards[2].replays("g"), "junk")
    form = {"typed": "g", "why": WHY}

    answer = await person.post("/groups/g/drop", form)

    assert answer.status == 503
    for text in (answer.text, await read_interruption(console, "groups.drop")):
        assert "is dropped on shards 0 and 1 only (WRONGTYPE" in text
    assert [await server.sismember(each.groups, "g") for each in shards] == [0, 0, 1]
    await server.delete(shards[2].replays("g"))
    assert (await person.post("/groups/g/drop", form)).status == 303
    assert [len(await server.xinfo_groups(each.stream)) for each in shards] == [0, 0, 0]
