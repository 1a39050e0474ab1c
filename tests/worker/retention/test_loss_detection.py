"""Every entry that leaves the stream otherwise than by the trimmer is reported, once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from stream.keys import Shard
from stream.redis import client as connect
from tests.support.processes import Valkey
from tests.support.streams.losses import NOTHING, missing, release
from tests.support.streams.retention import OLD, add, group, left, look, register
from worker.retention.ack_floor import AckFloor
from worker.retention.loss_detector import Account, LossDetector
from worker.retention.trimmer import Trimmer


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[tuple[str, Redis]]:
    """A server that the test may empty."""
    async with Valkey(tmp_path / "valkey").running() as valkey:
        server = connect.client(valkey.url)
        yield valkey.url, server
        await server.aclose()


async def test_what_went_otherwise_is_counted(own: tuple[str, Redis], shard: Shard) -> None:
    """Trimmed by hand, deleted one by one, with the whole stream, with the whole server: each entry counts once."""
    url, server = own
    trimmer = Trimmer(server, shard, NOTHING, None)
    assert await missing(trimmer) == 0
    await add(server, shard, range(1, 101))
    await group(server, shard, "done", read=50)
    await register(server, shard, "done")
    assert await missing(trimmer) == 0
    await release(server, shard.trimmer)
    await look(url, shard, OLD)
    assert len(await left(server, shard)) == 50
    assert await missing(trimmer) == 0  # that was the trimmer
    await server.xtrim(shard.stream, maxlen=40, approximate=False)
    await server.xdel(shard.stream, "90-0")
    assert await missing(trimmer) == 11
    assert await missing(trimmer) == 0
    await server.delete(shard.stream)
    assert await missing(trimmer) == 39
    await add(server, shard, range(1, 8))
    assert await missing(trimmer) == 0
    await server.flushall()
    assert await missing(trimmer) == 7
    await release(server, shard.trimmer)
    assert await missing(Trimmer(server, shard, NOTHING, None)) == 0


async def test_what_went_while_no_worker_ran_is_counted_later(server: Redis, shard: Shard) -> None:
    """The account is kept on the server."""
    await add(server, shard, range(1, 11))
    assert await missing(Trimmer(server, shard, NOTHING, None)) == 0
    await server.xtrim(shard.stream, maxlen=4, approximate=False)
    await release(server, shard.trimmer)
    assert await missing(Trimmer(server, shard, NOTHING, None)) == 6


async def test_what_the_trimmer_took_is_not_missed_when_the_stream_is_deleted(own: tuple[str, Redis]) -> None:
    """Of a stream that is deleted only the entries that it still had are missing."""
    url, server = own
    shard = Shard("deleted")
    await add(server, shard, range(1, 101))
    await group(server, shard, "done", read=60)
    await register(server, shard, "done")
    await look(url, shard, OLD)
    assert len(await left(server, shard)) == 40
    await server.delete(shard.stream)
    await add(server, shard, [200])
    assert await missing(Trimmer(server, shard, NOTHING, None)) == 40


async def test_a_loss_is_reported_once_although_the_next_command_fails(
    server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries vanish just when Redis is in trouble: the report does not wait for the commands that follow it."""
    await add(server, shard, range(1, 11))
    trimmer = Trimmer(server, shard, NOTHING, None)
    assert await missing(trimmer) == 0
    await server.xtrim(shard.stream, maxlen=4, approximate=False)
    with monkeypatch.context() as patch:
        patch.setattr(AckFloor, "record", _fail)
        assert [await _reports(trimmer) for _ in range(3)] == [6, 0, 0]
        await server.xtrim(shard.stream, maxlen=3, approximate=False)
        assert await _reports(trimmer) == 1
    assert await missing(trimmer) == 0
    await server.xtrim(shard.stream, maxlen=1, approximate=False)
    assert await missing(trimmer) == 2


async def _fail(*_: object, **__: object) -> None:
    raise RedisConnectionError


async def _reports(trimmer: Trimmer) -> int:
    """How many entries a look reports that then fails."""
    before = _metric()
    with pytest.raises(RedisConnectionError):
        await trimmer.run_once(asyncio.Event())
    return int(_metric() - before)


def _metric() -> float:
    return REGISTRY.get_sample_value("ackstream_missing_entries_total") or 0.0


async def test_a_full_server_takes_the_account(own: tuple[str, Redis], shard: Shard) -> None:
    """Over its memory limit the trimmer still surveys, records and trims."""
    url, server = own
    await add(server, shard, range(1, 2001))
    await group(server, shard, "done", read=2000)
    await register(server, shard, "done")
    await server.config_set("maxmemory", 1)
    await look(url, shard, OLD)
    assert await left(server, shard) == []
    await server.config_set("maxmemory", 0)


def test_a_loss_of_the_server_s_memory_counts_once() -> None:
    """A server that came back with fewer entries and no ledger lacks what was there before."""
    detector = LossDetector()
    assert detector.count_missing(Account(100, 100, 0), None) == 0
    assert detector.count_missing(Account(90, 90, 0), None) == 10
    assert detector.count_missing(Account(90, 90, 0), None) == 0
    detector.forget()
    assert detector.count_missing(Account(10, 10, 0), None) == 0
