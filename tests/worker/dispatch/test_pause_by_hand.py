from redis.asyncio import Redis

from stream.keys import Shard
from worker.dispatch.pause import Pause, PauseReason, pause_by_hand, read_pause
from worker.group.group_ref import GroupRef


async def test_a_probe_does_not_end_a_pause_by_hand(server: Redis, shard: Shard) -> None:
    """A pause by hand replaces other reasons; a probe that succeeds or fails after it changes nothing."""
    group = GroupRef(server, shard, "g")
    pause = Pause(group, 100)
    await pause.start(PauseReason.FAILING)
    await server.hset(shard.paused("g"), "probe", "0")
    assert await pause.take_probe(60, "c")
    await pause_by_hand(group, "ida", "receiver is down")
    await pause.note_failed_probe()
    await pause.end(PauseReason.FAILING)
    for reason in (PauseReason.GONE, PauseReason.DEAD_LETTERS, PauseReason.FAILING):
        await pause.start(reason)
    await pause.refresh()
    assert (pause.reason, await pause.take_probe(60, "c")) == (PauseReason.OPERATOR, False)
    state = await read_pause(group)
    assert state is not None
    assert (state.reason, state.person, state.why, state.next_probe_ms) == ("operator", "ida", "receiver is down", None)
    assert await server.pttl(shard.paused("g")) == -1
