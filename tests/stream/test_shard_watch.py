"""The number of shards in Redis, and the processes that follow it."""

from redis.asyncio import Redis
from structlog.testing import capture_logs

from stream.keys import Shard
from stream.layout import Layout, change_layout, read_layout
from stream.redis.client import client
from stream.settings import StreamSettings
from stream.shard_watch import ShardWatch
from tests.support.servers.redis_users import add_user


async def test_the_number_in_redis_counts(server: Redis, shard: Shard) -> None:
    """The first process writes its number; one with another number uses that of Redis, and warns once."""
    settings = [StreamSettings(stream=shard.name, shards=number) for number in (2, 3)]
    first, second = (ShardWatch(server, each) for each in settings)
    assert await read_layout(server, settings[1]) == Layout()

    with capture_logs() as logs:
        for watch in (first, second, second):
            await watch.refresh()

    assert first.layout == second.layout
    assert (second.layout.used, [each.number for each in second.shards]) == (2, [0, 1])
    assert [(line["event"], line["setting"], line["in_use"]) for line in logs] == [("shards.differ", 3, 2)]


async def test_a_change_starts_what_the_new_shards_need(server: Redis, shard: Shard) -> None:
    """Each new shard is started once, also one that is out of use again when the process notices."""
    settings = StreamSettings(stream=shard.name)
    watch, started = ShardWatch(server, settings), list[int]()
    with watch.start_each(lambda each: started.append(each.number)):
        await watch.refresh()
        await change_layout(server, settings, 4)
        await change_layout(server, settings, 2)
        await watch.refresh()
        await watch.refresh()
    await change_layout(server, settings, 5)
    await watch.refresh()

    assert started == [0, 1, 2, 3]
    assert (watch.layout.used, watch.layout.known, len(watch.shards)) == (5, 5, 5)


async def test_a_process_keeps_the_shards_known_that_it_reads(server: Redis, shard: Shard) -> None:
    """After Redis has lost the key, a process that reads more shards than the settings say writes them again."""
    settings = StreamSettings(stream=shard.name)
    watch = ShardWatch(server, settings)
    await change_layout(server, settings, 3)
    await watch.refresh()
    await server.delete(shard.layout)
    await watch.refresh()

    layout = await read_layout(server, settings)
    assert (layout.used, layout.known) == (1, 3)
    assert watch.layout == layout


async def test_a_user_without_the_right_has_one_shard(server: Redis, valkey_url: str, shard: Shard) -> None:
    """It logs the missing right once, and works on shard 0."""
    url = await add_user(server, valkey_url, f"{shard.name}-old", f"~{shard.stream}", "+xadd", "+get", "+setnx")
    async with client(url) as old:
        watch = ShardWatch(old, StreamSettings(stream=shard.name))
        with capture_logs() as logs:
            await watch.refresh()
            await watch.refresh()

    assert [line["event"] for line in logs] == ["shards.denied"]
    assert watch.layout.used == 1
