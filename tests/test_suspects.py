from redis.asyncio import Redis

from stream.keys import Shard
from worker.consumer.fetch_plan import Source
from worker.group.poison import ALONE_AFTER, MOST_DEATHS, Suspects, Suspicion

LIVE, RETRY = Source.LIVE, Source.RETRY


async def test_an_entry_is_alone_from_the_second_death_on(server: Redis, shard: Shard) -> None:
    """Of whichever worker; a hand-over is no death, and an entry of another stream is another entry."""
    seen = []
    for number in range(ALONE_AFTER + 1):
        suspects = Suspects(server, shard, "g")
        await suspects.took_over(LIVE, [b"1-0"], f"c-{number}", died=True)
        await suspects.took_over(RETRY, [b"1-0"], f"c-{number}", died=False)
        seen.append((suspects.of(LIVE, b"1-0").alone, suspects.of(RETRY, b"1-0").alone))
    assert seen == [(False, False), (True, False), (True, False)]
    await suspects.took_over(LIVE, [b"1-0"], "c-9", died=False)
    assert suspects.of(LIVE, b"1-0") == Suspicion(ALONE_AFTER + 1, 0)


async def test_only_a_death_with_the_mark_speaks_against_an_entry(server: Redis, shard: Shard) -> None:
    """Its own mark, of the worker that died; each death counts once, and none of it is its neighbours'."""
    ids = [b"1-0", b"2-0", b"3-0"]
    for number in range(MOST_DEATHS):
        suspects = Suspects(server, shard, "g")
        await suspects.mark(LIVE, b"2-0", f"c-{number}")
        await suspects.mark(LIVE, b"1-0", "another")
        await suspects.took_over(LIVE, ids, f"c-{number}", died=True)
        await suspects.took_over(LIVE, ids, f"c-{number}", died=False)
    assert [suspects.of(LIVE, one) for one in ids] == [Suspicion(3, 0), Suspicion(3, MOST_DEATHS), Suspicion(3, 0)]
    assert [suspects.of(LIVE, one).proved for one in ids] == [False, True, False]


async def test_a_mark_of_what_was_settled_counts_for_nothing(server: Redis, shard: Shard) -> None:
    """A worker that dies later has other entries in hand."""
    suspects = Suspects(server, shard, "g")
    await suspects.mark(LIVE, b"1-0", "c")
    await suspects.took_over(LIVE, [b"2-0"], "c", died=True)
    assert suspects.of(LIVE, b"2-0") == Suspicion(1, 0)


async def test_what_is_settled_is_forgotten_and_the_rest_expires(server: Redis, shard: Shard) -> None:
    """So nothing is kept for ever."""
    suspects = Suspects(server, shard, "g")
    await suspects.took_over(LIVE, [b"1-0", b"2-0"], "c", died=True)
    await suspects.clear(LIVE, [b"1-0", b"9-0"])
    assert await server.hgetall(shard.suspects("g")) == {b"live:2-0": b"1"}
    assert await server.pttl(shard.suspects("g")) > 0
    suspects.forget()
    assert not suspects.any_in_hand
