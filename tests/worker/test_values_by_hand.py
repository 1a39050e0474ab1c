"""Values that a person has written into the keys of a group stop no worker and no command."""

from typing import Any

import pytest
from redis.asyncio import Redis

from console.privacy.redis_places import Delayed
from console.privacy.selection import Selection, Subject
from console.queries.groups import find_group
from console.queries.stats import gather_stats
from console.queries.timeline.copies import CopySearch, find_outcomes
from console.web.sampling.redis_reader import RedisReader
from stream.keys import Shard
from tests.support.fake_clock import FakeClock
from tests.support.streams.pending import make_group, read_new_entries
from tests.support.workers.parts import make_parts
from tests.support.workers.processing import RecordingHandler, append_and_read
from worker.dispatch.pause import Pause, PauseReason
from worker.group.consumer_group import ConsumerGroup, read_group_names
from worker.group.group_ref import GroupRef
from worker.order.delayed_events import DelayedEvents
from worker.replay.entry_filter import ALL
from worker.replay.job import Place, Replay
from worker.replay.repository import Replays
from worker.retention.ack_floor import AckFloor
from worker.settle.copies import Copy
from worker.settle.delayed import DelayedRetries
from worker.settle.retry_policy import Disposition, Failure
from worker.settle.settler import Settler
from worker.sources import Source
from worker.timing import TIMING

NO_TEXT = b"\xff\xfe"
MANY = b"\xdc\x27\x10" + 10_000 * b"\xa0"
FOREIGN_COPIES = (
    *(b"447700900123", NO_TEXT, b"", b"\x05", b"\x90", b"\x91\xa1a", b"\x92\xa1a\x90", b"\x93\x01"),
    *(b"\x94\xa1a\xc0\xa1b\xa1c", b"\x94\xa1a\xa1b\xa1c\xc0", MANY),
)
"""Other texts than a packed copy: bytes, a number, arrays that are empty, odd, too long, or have other values."""


@pytest.fixture
def group(server: Redis, shard: Shard) -> GroupRef:
    """Return a group of its own."""
    return GroupRef(server, shard, "g")


async def test_a_delayed_retry_that_is_none_becomes_an_entry_with_its_bytes(group: GroupRef) -> None:
    """All due members move to the retry stream, where a worker dead-letters those without the fields of an entry."""
    await group.server.zadd(group.delayed, dict.fromkeys(FOREIGN_COPIES, 1))
    await DelayedRetries(group).promote()
    entries: Any = await group.server.xrange(group.retry)
    assert sorted(fields[b"payload"] for _, fields in entries) == sorted(FOREIGN_COPIES)
    assert not await group.server.exists(group.delayed)


async def test_a_delayed_retry_that_is_none_stops_no_reader(group: GroupRef) -> None:
    """Search, erasure, the console and the order of messages pass it; erasure finds a number in it."""
    await group.server.zadd(group.delayed, {**dict.fromkeys(FOREIGN_COPIES, 1), b"later": "+inf", b"before": "-inf"})
    await group.server.sadd(group.shard.groups, group.name)
    reader = RedisReader(group.server, lambda: _return([group.shard]))
    found = [
        record.key
        async for page in Delayed(group.server, group.delayed).find(Selection(Subject(frozenset({"447700900123"}))))
        for record in page
    ]

    assert found == [b"447700900123"]
    for text in ("later", "before", "447700900123"):
        assert (await CopySearch(group, text, []).run(0)).found == []
    assert [event async for event in DelayedEvents(group).read()] == []
    assert await reader.read()


async def _return(shards: list[Shard]) -> list[Shard]:
    return shards


async def test_a_time_of_success_that_is_none_stops_no_settlement(group: GroupRef) -> None:
    """A failed entry is delayed, and the next success replaces the value."""
    (entry_id,) = await read_new_entries(group.server, group.shard, 1)
    await group.server.set(group.succeeded, NO_TEXT)
    settler = Settler(group)
    await settler.note_success(None)
    failure = Failure("ValueError", "x.py:1", "", 5)
    copy = Copy.from_failure(
        entry_id, {}, origin="0/1-0", attempt=1, disposition=Disposition("failed: x", 9.0), failure=failure
    )
    assert (await settler.copy(Source.LIVE, [copy])).delayed == [copy]
    await settler.note_success(0.0)
    assert await group.server.get(group.succeeded) != NO_TEXT


async def test_a_pause_of_a_person_with_fewer_fields_is_probed(group: GroupRef) -> None:
    """A pause that has its reason only has a first probe at once, and a next one after a failure."""
    await group.server.hset(group.paused, "why", PauseReason.FAILING)
    pause = Pause(group, 100)
    await pause.refresh()
    assert await pause.take_probe(60, "c")
    await pause.note_failed_probe()
    await group.server.hset(group.paused, "why", NO_TEXT)
    await group.server.hset(group.paused, "since", "yesterday")
    await pause.refresh()
    assert pause.reason == "\\xff\\xfe"
    await group.server.sadd(group.shard.groups, group.name)
    assert (await gather_stats(group.server, [group.shard]))["groups"]["g"]["paused"] == "\\xff\\xfe"


async def test_a_checkpoint_that_is_no_id_counts_as_none(group: GroupRef) -> None:
    """A missing group is created at the start of its stream, and the list of groups shows no checkpoint."""
    await group.server.xadd(group.shard.stream, {"n": "1"}, id="1-0")
    await group.server.set(group.checkpoint, "the beginning")
    await ConsumerGroup(group).ensure()
    reply: Any = await group.server.xreadgroup("g", "c", {group.shard.stream: ">"})
    assert reply[0][1][0][0] == b"1-0"
    assert (await find_group(group.server, [group.shard], "g")).checkpoints == ()


async def test_a_crash_record_that_is_no_number_counts_as_none(server: Redis, shard: Shard) -> None:
    """The entries of a dead consumer of any name are claimed, and their claims are counted from then on."""
    clock = FakeClock()
    parts = make_parts(server, shard, RecordingHandler(server, shard), clock=clock)
    await append_and_read(server, shard, parts.heartbeat, [b"a"])
    stream, group = shard.stream, GroupRef(server, shard, "g")
    await server.xadd(stream, {"n": "1"})
    consumer: Any = NO_TEXT
    await server.xreadgroup("g", consumer, {stream: ">"})
    await server.hset(group.alive, NO_TEXT, "dead")
    pending: Any = await server.xpending_range(stream, "g", "-", "+", 10, consumer)
    name = b"live:" + pending[0]["message_id"]
    await server.hset(group.poison, mapping={name: "many", b"deaths:" + name: "some"})
    for _ in range(6):
        clock.now += TIMING.beat
        await parts.heartbeat.beat()
    assert len((await parts.claimer.claim(10))[Source.LIVE]) == 1
    assert await server.hget(group.poison, name) == b"1"


async def test_a_loss_account_that_is_no_number_is_written_again(group: GroupRef) -> None:
    """The trimmer takes the stream as it is, and counts losses from then on."""
    await make_group(group.server, group.shard, 3)
    await group.server.hset(group.shard.removed, mapping={"length": "x", "added": NO_TEXT, "gone": ""})
    floor = AckFloor(group.server, group.shard)
    survey = await floor.survey()
    assert survey.recorded is None
    await group.server.set(group.shard.trimmer, "token")
    await floor.record("token", survey)
    assert (await floor.survey()).recorded == survey.account


@pytest.mark.parametrize("rate", [NO_TEXT, b"fast", b"nan", b"-1", b"0", b"inf"])
async def test_a_rate_that_is_none_leaves_the_rate_of_the_replay(group: GroupRef, rate: bytes) -> None:
    """The copier continues, and the list of replays shows that rate."""
    await make_group(group.server, group.shard, 1)
    await group.server.sadd(group.shard.groups, "g")
    replay = Replay(
        id="r", group="g", place=Place.STREAM, selection=ALL, rate=7.0, begin="0-0", end="9-0", total=1, started_ms=1
    )
    replays = Replays(group)
    assert await replays.start(replay)
    await group.server.hset(group.replays, "r:rate", rate)
    assert await replays.read_rate(replay) == 7.0
    assert [progress.rate for progress in await replays.all()] == ([7.0] if rate != NO_TEXT else [])


async def test_an_outcome_that_is_none_is_left_out(group: GroupRef) -> None:
    """The history of an entry has the outcomes that a worker has written."""
    await group.server.xadd(group.history, {"origin": "0/1-0", "outcome": "handled", "attempt": "many", "error": ""})
    await group.server.xadd(group.history, {"origin": "0/1-0", "outcome": "handled", "attempt": "2", "error": ""})
    assert [outcome.attempt for _, outcome in await find_outcomes(group, ["0/1-0"])] == [2]


async def test_a_group_may_have_any_bytes_as_its_name(group: GroupRef) -> None:
    """Names are shown with escapes."""
    await group.server.sadd(group.shard.groups, NO_TEXT)
    assert await read_group_names(group.server, group.shard) == ["\\xff\\xfe"]
