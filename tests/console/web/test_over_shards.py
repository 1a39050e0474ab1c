"""The pages of a console over a stream with three shards."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from console.queries.shards import set_shards
from console.web.metrics.gauges import REGISTRY
from stream.keys import Shard
from stream.settings import StreamSettings
from tests.support.databases import make_sqlite
from tests.support.http.console_server import Visitor, run_console
from tests.support.samples.events import RECEIVED_MS, body, entry, event
from tests.support.streams.causes import add_dead
from tests.support.streams.stored_messages import store_events
from tests.support.waiting import until
from worker.group.consumer_group import create_group
from worker.group.group_ref import GroupRef
from worker.replay.job import State
from worker.replay.repository import Replays

STATUSES = ("submitted", "delivered", "read")


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
async def person(valkey_url: str, shards: list[Shard], tmp_path: Path) -> AsyncIterator[Visitor]:
    """An operator of the console."""
    settings = {"database_url": f"sqlite:///{tmp_path / 'ackstream.db'}"}
    async with run_console(tmp_path, valkey_url, shards[0].name, **settings) as console, console.visit() as person:
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
