"""The timeline of a message shows the state of each webhook in each group."""

from typing import Any

import pytest
from redis.asyncio import Redis

from console.queries.replays import ReplayRequest, plan, start
from console.queries.timeline import copies
from console.queries.timeline.timeline import find_timeline
from stream.entry import EntryId
from stream.keys import Shard
from tests.support.samples.events import RECEIVED_MS, body, event
from tests.support.workers.failing_group import FailingGroup
from worker.replay import copier
from worker.replay.entry_filter import EntryFilter
from worker.replay.job import Place
from worker.sources import Source

PAYLOAD = body(message_uuid="m-1", to="447700900123")


async def find(server: Redis, shard: Shard, *entries: str, payload: bytes = PAYLOAD, reveal: bool = False) -> Any:
    """Return the timeline of m-1, whose events of these entries are in the tables."""
    events = [event(payload, RECEIVED_MS, entry) for entry in entries]
    return (await find_timeline(server, shard, "m-1", events, reveal=reveal)).as_dict()


def kinds(webhook: Any) -> list[str]:
    """Return the kinds of the steps."""
    return [step["kind"] for step in webhook["steps"]]


async def test_a_webhook_is_unread_then_in_flight_then_settled(server: Redis, shard: Shard) -> None:
    """The position of the group and its pending entries decide; an entry that came late was in the spool."""
    group = FailingGroup(server, shard)
    await group.start()
    entry = await group.append(PAYLOAD, verified="sig", account="abc")
    states = [(await find(server, shard, entry))["webhooks"][0]]
    await server.xreadgroup("g", "somebody", {shard.stream: ">"})
    states.append((await find(server, shard, entry))["webhooks"][0])
    await server.xack(shard.stream, "g", EntryId.from_text(entry).redis)
    states.append((await find(server, shard, entry))["webhooks"][0])

    assert [webhook["groups"][0]["state"] for webhook in states] == ["unread", "in flight", "settled"]
    assert states[1]["groups"][0]["deliveries"] == 1
    assert kinds(states[2]) == ["received", "spooled", "settled"]
    assert states[2]["verified"] == "sig"
    assert states[2]["spooled_seconds"] > 1
    await server.xtrim(shard.stream, maxlen=0)
    trimmed = (await find(server, shard, entry))["webhooks"][0]
    assert (trimmed["is_on_stream"], trimmed["groups"][0]["state"]) == (False, "settled")


async def test_retries_dead_letter_and_replay_are_steps(server: Redis, shard: Shard) -> None:
    """The copies have the attempts; then the history has dead letter and success, the jobs the replay."""
    group = FailingGroup(server, shard, "m-1")
    await group.start()
    entry = await group.append(PAYLOAD)
    await group.handle()

    delayed = (await find(server, shard, entry))["webhooks"][0]
    state = delayed["groups"][0]
    assert (state["state"], state["attempts"], len(state["errors"])) == ("delayed", 1, 1)
    assert state["due_at"] is not None
    assert kinds(delayed) == ["received", "spooled", "failed", "delayed"]

    await group.give_up()
    masked, shown = [(await find(server, shard, entry, reveal=show))["webhooks"][0] for show in (False, True)]
    state = masked["groups"][0]
    assert (state["state"], state["attempts"]) == ("dead letter", 3)
    assert state["dead_letter"]
    assert kinds(masked) == ["received", "spooled", "failed", "failed again", "dead-lettered"]
    assert state["message"] is None
    assert "447700900123" not in str(masked)
    assert shown["groups"][0]["message"] == "no route to 447700900123"

    group.fails.clear()
    replay = ReplayRequest(shard, "g", Place.DEAD, EntryFilter(messages=("m-1",)), 1000, None)
    await start(server, [(replay, await plan(server, replay))])
    waiting = (await find(server, shard, entry))["webhooks"][0]["groups"][0]
    assert (waiting["state"], waiting["replays"][0]["is_copied"]) == ("dead letter", False)
    await group.copy_replays()
    copied = (await find(server, shard, entry))["webhooks"][0]["groups"][0]
    assert (copied["state"], copied["dead_letter"]) == ("replaying", None)
    await group.handle(Source.REPLAY)
    webhook = (await find(server, shard, entry))["webhooks"][0]
    assert webhook["groups"][0]["state"] == "handled"
    assert kinds(webhook) == ["received", "spooled", "dead-lettered", "replayed", "handled"]


@pytest.mark.parametrize(
    ("most_noted", "state", "last"), [(1, "handled", "handled"), (0, "replayed", "settled after replay")]
)
async def test_a_replay_from_the_stream_is_handled_if_it_is_small(
    server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch, most_noted: int, state: str, last: str
) -> None:
    """The history notes the success of a small replay; after a large one the timeline says that it is settled."""
    monkeypatch.setattr(copier, "MOST_NOTED", most_noted)
    group = FailingGroup(server, shard)
    await group.start()
    entry = await group.append(PAYLOAD)
    await group.handle()
    replay = ReplayRequest(shard, "g", Place.STREAM, EntryFilter(messages=("m-1",)), 1000, None)
    await start(server, [(replay, await plan(server, replay))])
    await group.copy_replays()
    waiting = (await find(server, shard, entry))["webhooks"][0]

    await group.handle(Source.REPLAY)
    webhook = (await find(server, shard, entry))["webhooks"][0]

    assert waiting["groups"][0]["state"] == "replaying"
    assert webhook["groups"][0]["state"] == state
    assert kinds(webhook) == ["received", "spooled", "replayed", last]


async def test_a_webhook_that_the_tables_lack_is_found_by_its_copy_or_entry(server: Redis, shard: Shard) -> None:
    """Unsettled entries and copies have the id in their payload; a settled entry is found only by its own id."""
    group = FailingGroup(server, shard, "m-1")
    await group.start()
    await group.append(PAYLOAD)
    await group.handle()
    fresh = EntryId.from_text(await group.append(body(message_uuid="m-1", status="read")))
    second = EntryId.from_text(await group.append(body(message_uuid="m-2")))

    async def statuses(entry: EntryId | None = None) -> list[tuple[str, bool]]:
        timeline = await find_timeline(server, shard, "m-1", [], entry, reveal=False)
        return [(webhook["status"], webhook["is_stored"]) for webhook in timeline.webhooks]

    assert await statuses() == [("delivered", False), ("read", False)]
    group.fails.clear()
    await group.handle()
    assert await statuses() == [("delivered", False)]
    assert await statuses(fresh) == [("delivered", False), ("read", False)]
    assert await statuses(second) == [("delivered", False)]


async def test_the_same_payload_again_is_a_repeat(server: Redis, shard: Shard) -> None:
    """A second entry of an event is its own webhook."""
    group = FailingGroup(server, shard, "m-1")
    await group.start()
    first, _ = await group.append(PAYLOAD), await group.append(PAYLOAD)
    await group.handle()

    webhooks = (await find(server, shard, first))["webhooks"]
    assert [webhook["is_repeat"] for webhook in webhooks] == [False, True]
    assert [webhook["groups"][0]["state"] for webhook in webhooks] == ["delayed", "delayed"]


async def test_a_search_that_ends_early_says_so(server: Redis, shard: Shard, monkeypatch: Any) -> None:
    """The places with more copies than the limit are named."""
    group = FailingGroup(server, shard, "m-1", *(f"x-{number}" for number in range(5)), delay_seconds=60)
    await group.start()
    for number in range(5):
        await group.append(body(message_uuid=f"x-{number}"))
    entry = await group.append(PAYLOAD)
    await group.handle()
    assert (await find(server, shard, entry))["unsearched"] == []

    monkeypatch.setattr(copies, "MOST_SEARCHED", 4)
    monkeypatch.setattr(copies, "STEP", 2)
    assert (await find(server, shard, entry))["unsearched"] == [{"group": "g", "place": "delayed"}]


async def test_a_dead_letter_beyond_the_limit_is_found_by_the_history(
    server: Redis, shard: Shard, monkeypatch: Any
) -> None:
    """The time of the outcome in the history leads to the dead letter."""
    group = FailingGroup(server, shard, "m-1")
    await group.start()
    entry = await group.append(PAYLOAD)
    await group.handle()
    await group.give_up()
    letters: Any = await server.xrange(shard.dead("g"))
    await server.delete(shard.dead("g"))
    since = EntryId.from_text(entry).ms
    monkeypatch.setattr(copies, "NEAR_MS", 0)
    outcome: Any = await server.xrange(shard.history("g"))
    at = int(outcome[-1][0].split(b"-")[0])
    for number in range(6):
        await server.xadd(shard.dead("g"), {"payload": "{}"}, id=f"{since}-{number}")
    await server.xadd(shard.dead("g"), letters[0][1], id=f"{at}-7")
    monkeypatch.setattr(copies, "MOST_SEARCHED", 4)
    monkeypatch.setattr(copies, "STEP", 2)

    state = (await find(server, shard, entry))["webhooks"][0]["groups"][0]
    assert state["state"] == "dead letter"
