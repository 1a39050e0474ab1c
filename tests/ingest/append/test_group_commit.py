"""Group commit: the entries of a batch, and in-flight batches when the connection to Redis is lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingest.append.connection import EntrySink
from ingest.append.group_commit import BATCHES, Appender
from ingest.append.message_appender import AnyAppender
from ingest.append.pipeline import open_pipeline
from ingest.append.redis_writer import RedisWriter
from ingest.append.server_checks import ServerChecks
from ingest.settings import IngestSettings
from ingest.spool.folder import Owner
from ingest.spool.queue import open_spool
from runtime.tasks import cancel_and_wait
from stream.keys import Shard
from stream.redis.client import client
from stream.shard_watch import ShardWatch
from tests.support.faults.redis_outages import ProxiedRedis, is_open, read_metric, run_proxied_redis
from tests.support.samples.events import body, entry
from tests.support.waiting import until

LONG_MS = 10_000  # nothing goes to the spool for being late
SOON_SECONDS = 8


@pytest.fixture
async def away(tmp_path: Path, shard: Shard) -> AsyncIterator[ProxiedRedis]:
    async with run_proxied_redis(tmp_path / "valkey", shard) as away:
        yield away


def make_settings(away: ProxiedRedis) -> IngestSettings:
    return IngestSettings.load(**away.settings, signatures="off", ack_budget_ms=LONG_MS)


@asynccontextmanager
async def silent(away: ProxiedRedis) -> AsyncIterator[AnyAppender]:
    """An appender whose server executes all commands, but whose replies are lost."""
    server = client(away.settings["redis_url"])
    async with open_pipeline(server, make_settings(away)) as appender:
        await away.run_command("CONFIG RESETSTAT")
        away.proxy.swallows_replies = True
        yield appender
    await server.aclose()


class Senders:
    """Return the futures of the waiting entries."""

    def __init__(self, appender: AnyAppender) -> None:
        self._appender = appender
        self.ids: list[str] = []
        self.waiting: list[asyncio.Future[None]] = []

    async def send(self, number: int) -> None:
        """Append this many entries at once; return when they wait."""
        for _ in range(number):
            self.ids.append(f"m-{len(self.ids)}")
            payload = body(message_uuid=self.ids[-1])
            self.waiting.append(self._appender.append(entry(payload)))
        await asyncio.sleep(0)

    async def all_kept(self) -> None:
        """Return when all of them are; fail if that takes as long as a reply may."""
        async with asyncio.timeout(SOON_SECONDS):
            await asyncio.gather(*self.waiting)


async def count_appended(away: ProxiedRedis) -> tuple[int, int]:
    """How many entries are on the stream, and how many calls brought them."""
    calls = (await away.server.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]
    return await away.server.xlen(away.shard.stream), calls


async def test_a_second_batch_goes_out_when_as_many_wait_as_are_in_hand(away: ProxiedRedis) -> None:
    """While one batch is in flight, smaller ones wait. Entries that arrive during two batches share the next one."""
    async with silent(away) as appender:
        senders = Senders(appender)
        for number, expected in ((3, (3, 1)), (2, (3, 1)), (1, (6, 2)), (9, (6, 2))):
            await senders.send(number)

            async def is_so(expected: tuple[int, int] = expected) -> bool:
                return await count_appended(away) == expected

            await until(is_so)
        away.proxy.swallows_replies = False
        assert BATCHES == 2
        assert not any(sender.done() for sender in senders.waiting)
        away.proxy.cut()
        await senders.all_kept()


async def test_with_one_batch_in_flight_all_later_entries_share_the_next(away: ProxiedRedis, tmp_path: Path) -> None:
    """So a shard of a cluster in order mode gets fewer, larger batches."""
    async with (
        client(away.settings["redis_url"]) as server,
        open_spool(tmp_path / "data", Owner("stream", "redis"), 2**20) as spool,
    ):
        writer = RedisWriter(server, ShardWatch(server, make_settings(away)), ServerChecks(server, "stream"))
        await writer.probe(try_append)
        appender = Appender(writer, spool, LONG_MS / 1000, batches=1)
        running = asyncio.create_task(appender.run())
        await away.run_command("CONFIG RESETSTAT")
        away.proxy.swallows_replies = True
        senders = Senders(appender)
        await senders.send(3)
        await until(lambda: has_appended(away, 3, 1))
        await senders.send(9)
        for _ in range(10):  # a second batch would reach the server
            await away.server.ping()
        away.proxy.swallows_replies = False
        away.proxy.cut()
        await senders.all_kept()
        assert await count_appended(away) == (3 + 3 + 9, 3)
        await cancel_and_wait([running])
        await writer.close()


async def try_append(connection: EntrySink) -> None:
    await connection.append((), SOON_SECONDS)


async def has_appended(away: ProxiedRedis, entries: int, calls: int) -> bool:
    return await count_appended(away) == (entries, calls)


async def send_three_batches(away: ProxiedRedis, appender: AnyAppender) -> Senders:
    """Send three entries, three and five; return when the server has the first two batches, without an answer."""
    senders = Senders(appender)
    for number in (3, 3, 5):
        await senders.send(number)

    async def has_two_batches() -> bool:
        return await count_appended(away) == (6, 2)

    await until(has_two_batches)
    return senders


async def count_copies(away: ProxiedRedis, ids: Sequence[str]) -> list[int]:
    """Count the entries of each of these messages on the stream."""
    times = Counter(await away.ids())
    return [times[message_uuid] for message_uuid in ids]


async def test_batches_in_flight_are_appended_again_when_their_connection_is_lost(away: ProxiedRedis) -> None:
    """Redis is up, so a new connection appends both batches and the waiting entries; the spool gets nothing."""
    spooled = read_metric("spooled_entries_total", why="away")
    async with silent(away) as appender:
        senders = await send_three_batches(away, appender)
        away.proxy.swallows_replies = False
        away.proxy.cut()
        await senders.all_kept()
        assert read_metric("spooled_entries_total", why="away") == spooled
    assert await count_copies(away, senders.ids) == [2] * 6 + [1] * 5


async def test_batches_in_flight_are_spooled_when_redis_is_lost(away: ProxiedRedis) -> None:
    """Both batches and the waiting entries go to the spool, although the server has the batches."""
    spooled = read_metric("spooled_entries_total", why="away")
    async with silent(away) as appender:
        senders = await send_three_batches(away, appender)
        away.proxy.swallows_replies, away.proxy.refuses = False, True
        away.proxy.cut()
        await senders.all_kept()
        assert read_metric("spooled_entries_total", why="away") - spooled == 11
        away.proxy.refuses = False
        await away.has(senders.ids)
        await is_open()
    assert await count_copies(away, senders.ids) == [2] * 6 + [1] * 5
