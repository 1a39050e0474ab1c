"""Every entry that leaves the stream without being trimmed by a worker is reported once."""

import asyncio

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from stream.keys import Shard
from tests.support.streams.losses import NOTHING, count_missing, release
from tests.support.streams.retention import OLD, add, group, read_ids, register, trim_once
from worker.retention.ack_floor import AckFloor
from worker.retention.loss_detector import Account, LossDetector
from worker.retention.trimmer import Trimmer


async def test_entries_removed_by_others_are_counted(own_server: tuple[str, Redis], shard: Shard) -> None:
    """Entries removed by XTRIM, XDEL, DEL or FLUSHALL count once each."""
    url, server = own_server
    trimmer = Trimmer(server, shard, NOTHING, None)
    assert await count_missing(trimmer) == 0
    await add(server, shard, range(1, 101))
    await group(server, shard, "done", read=50)
    await register(server, shard, "done")
    assert await count_missing(trimmer) == 0
    await release(server, shard.trimmer)
    await trim_once(url, shard, OLD)
    assert len(await read_ids(server, shard)) == 50
    assert await count_missing(trimmer) == 0  # that was the trimmer
    await server.xtrim(shard.stream, maxlen=40, approximate=False)
    await server.xdel(shard.stream, "90-0")
    assert await count_missing(trimmer) == 11
    assert await count_missing(trimmer) == 0
    await server.delete(shard.stream)
    assert await count_missing(trimmer) == 39
    await add(server, shard, range(1, 8))
    assert await count_missing(trimmer) == 0
    await server.flushall()
    assert await count_missing(trimmer) == 7
    await release(server, shard.trimmer)
    assert await count_missing(Trimmer(server, shard, NOTHING, None)) == 0


async def test_entries_that_left_while_no_worker_ran_are_counted_later(server: Redis, shard: Shard) -> None:
    """The loss account is on the server."""
    await add(server, shard, range(1, 11))
    assert await count_missing(Trimmer(server, shard, NOTHING, None)) == 0
    await server.xtrim(shard.stream, maxlen=4, approximate=False)
    await release(server, shard.trimmer)
    assert await count_missing(Trimmer(server, shard, NOTHING, None)) == 6


async def test_trimmed_entries_are_not_missing_when_the_stream_is_deleted(own_server: tuple[str, Redis]) -> None:
    """Only the entries that the stream still had are missing."""
    url, server = own_server
    shard = Shard("deleted")
    await add(server, shard, range(1, 101))
    await group(server, shard, "done", read=60)
    await register(server, shard, "done")
    await trim_once(url, shard, OLD)
    assert len(await read_ids(server, shard)) == 40
    await server.delete(shard.stream)
    await add(server, shard, [200])
    assert await count_missing(Trimmer(server, shard, NOTHING, None)) == 40


async def test_a_loss_is_reported_once_although_the_next_command_fails(
    server: Redis, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report does not wait for the next commands, because losses happen when Redis has faults."""
    await add(server, shard, range(1, 11))
    trimmer = Trimmer(server, shard, NOTHING, None)
    assert await count_missing(trimmer) == 0
    await server.xtrim(shard.stream, maxlen=4, approximate=False)
    with monkeypatch.context() as patch:
        patch.setattr(AckFloor, "record", _fail)
        assert [await _reports(trimmer) for _ in range(3)] == [6, 0, 0]
        await server.xtrim(shard.stream, maxlen=3, approximate=False)
        assert await _reports(trimmer) == 1
    assert await count_missing(trimmer) == 0
    await server.xtrim(shard.stream, maxlen=1, approximate=False)
    assert await count_missing(trimmer) == 2


async def _fail(*_: object, **__: object) -> None:
    raise RedisConnectionError


async def _reports(trimmer: Trimmer) -> int:
    """Return the number of entries that a failing run of the trimmer reports."""
    before = _metric()
    with pytest.raises(RedisConnectionError):
        await trimmer.run_once(asyncio.Event())
    return int(_metric() - before)


def _metric() -> float:
    return REGISTRY.get_sample_value("ackstream_missing_entries_total") or 0.0


async def test_a_full_server_accepts_the_account(own_server: tuple[str, Redis], shard: Shard) -> None:
    """The trimmer surveys, records and trims also over the memory limit of the server."""
    url, server = own_server
    await add(server, shard, range(1, 2001))
    await group(server, shard, "done", read=2000)
    await register(server, shard, "done")
    await server.config_set("maxmemory", 1)
    await trim_once(url, shard, OLD)
    assert await read_ids(server, shard) == []
    await server.config_set("maxmemory", 0)


def test_a_server_that_lost_its_last_entries_counts_them_once() -> None:
    """A server that restarts with fewer entries and without the account lacks the entries that it had before."""
    detector = LossDetector()
    assert detector.count_missing(Account(100, 100, 0), None) == 0
    assert detector.count_missing(Account(90, 90, 0), None) == 10
    assert detector.count_missing(Account(90, 90, 0), None) == 0
    detector.forget()
    assert detector.count_missing(Account(10, 10, 0), None) == 0
