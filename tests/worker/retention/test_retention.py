import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from stream.entry import EntryId
from stream.keys import Shard
from stream.redis import client as connect
from tests.support.processes import Valkey
from tests.support.streams.retention import DAY_MS, LARGE, LARGE_BYTES, OLD, add, group, left, look, register
from tests.support.waiting import until
from worker.group.lease import Lease
from worker.retention.ack_floor import AckFloor
from worker.retention.archive_reader import read
from worker.retention.archive_writer import Archive
from worker.retention.policy import RetentionPolicy

either_limit = pytest.mark.parametrize("retention", [OLD, LARGE], ids=["age", "bytes"])


async def settled(server: Redis, shard: Shard, entries: int = 1000) -> list[bytes]:
    """A stream whose one registered group has acked everything."""
    ids = await add(server, shard, range(1, entries + 1))
    await group(server, shard, "done", read=entries)
    await register(server, shard, "done")
    return ids


def files(archive: Path) -> list[Path]:
    return list(archive.glob("*.gz"))


async def is_left_from(server: Redis, shard: Shard, ids: list[bytes], start: int) -> None:
    """All from there on is left; before it at most what is in one node with it."""
    kept = await left(server, shard)
    assert ids[start:] == kept[-len(ids[start:]) :]
    assert len(kept) < len(ids) - start + 10


@either_limit
async def test_what_every_group_has_settled_goes(
    valkey_url: str, server: Redis, shard: Shard, retention: RetentionPolicy
) -> None:
    """If too old, all of it; of a stream that is too large, until it is no more."""
    ids = await settled(server, shard)
    await look(valkey_url, shard, retention)
    kept = await left(server, shard)
    if retention is OLD:
        assert kept == []
    else:
        assert kept == ids[-len(kept) :]
        assert 1 < len(kept) < 20
        assert int(await server.memory_usage(shard.stream) or 0) <= LARGE_BYTES + 4200


async def test_what_is_younger_stays(valkey_url: str, server: Redis, shard: Shard) -> None:
    """Age counts from an entry's id, which is when it was appended, on the server's clock."""
    now_ms = time.time_ns() // 1_000_000
    ids = await add(server, shard, [now_ms - DAY_MS * days for days in (3, 2, 1)] + [now_ms - DAY_MS + 60_000, "*"])
    await group(server, shard, "done", read=10)
    await register(server, shard, "done")
    await look(valkey_url, shard, OLD)
    assert await left(server, shard) == ids[3:]


@either_limit
@pytest.mark.parametrize("registered", [True, False])
async def test_a_group_that_never_reads_keeps_everything(
    valkey_url: str, server: Redis, shard: Shard, retention: RetentionPolicy, registered: bool
) -> None:
    """A registered one, and one that somebody else made."""
    ids = await settled(server, shard)
    await group(server, shard, "never")
    if registered:
        await register(server, shard, "never")
    await look(valkey_url, shard, retention)
    assert await left(server, shard) == ids


@either_limit
async def test_what_is_in_hand_holds(valkey_url: str, server: Redis, shard: Shard, retention: RetentionPolicy) -> None:
    """The oldest entry that a group has not acked stays, with all that came after it."""
    ids = await settled(server, shard)
    await group(server, shard, "slow", read=995, ack=990)
    await look(valkey_url, shard, retention)
    await is_left_from(server, shard, ids, 990)
    await server.xack(shard.stream, "slow", *ids[990:995])
    await look(valkey_url, shard, OLD)
    assert await left(server, shard) == ids[995:]


@either_limit
@pytest.mark.parametrize(
    ("checkpoint", "kept_from"),
    [("990-0", 990), (None, 0), ("1001-0", 0), ("1e3", 0), ("990-18446744073709551615", 990)],
)
async def test_a_registered_group_that_is_missing_stands_at_its_checkpoint(
    valkey_url: str, server: Redis, shard: Shard, retention: RetentionPolicy, checkpoint: str | None, kept_from: int
) -> None:
    """Without one, or with one that is beyond the stream's end, where the group would begin at 0, everything stays."""
    ids = await settled(server, shard)
    await register(server, shard, "missing")
    if checkpoint:
        await server.set(shard.checkpoint("missing"), checkpoint)
    await look(valkey_url, shard, retention)
    await is_left_from(server, shard, ids, kept_from)


@either_limit
async def test_where_no_group_is_registered_nothing_goes(
    valkey_url: str, server: Redis, shard: Shard, retention: RetentionPolicy
) -> None:
    """Whatever other groups have settled."""
    ids = await settled(server, shard)
    await server.delete(shard.groups)
    await look(valkey_url, shard, retention)
    assert await left(server, shard) == ids


@pytest.mark.parametrize("registered", [True, False])
async def test_a_group_made_in_the_middle_keeps_what_is_left(server: Redis, shard: Shard, registered: bool) -> None:
    """From the very next step on: a foreign one, and one that is registered and will be made in a moment."""
    ids = await settled(server, shard)
    floor, lease = AckFloor(server, shard), Lease(server, shard.trimmer, 5000)
    await lease.take()
    await floor.survey()
    end = EntryId(0, 2000, 0)
    removed = await floor.trim(lease.token, 5000, end, limit=100)
    assert removed
    await (register(server, shard, "new") if registered else group(server, shard, "new"))
    assert not await floor.trim(lease.token, 5000, end, limit=100)
    await floor.survey()
    assert await floor.trim(lease.token, 5000, end) == 0
    assert await left(server, shard) == ids[removed:]


async def test_when_a_group_is_dropped_the_trimmer_looks_again(server: Redis, shard: Shard) -> None:
    """A step made for other groups than there are now removes nothing; least of all when none is left."""
    ids = await settled(server, shard)
    floor, lease = AckFloor(server, shard), Lease(server, shard.trimmer, 5000)
    await lease.take()
    await floor.survey()
    await server.srem(shard.groups, "done")
    assert await floor.trim(lease.token, 5000, EntryId(0, 2000, 0)) is None
    assert await left(server, shard) == ids


async def test_one_trims_at_a_time(valkey_url: str, server: Redis, shard: Shard) -> None:
    """Who has not the lease does nothing; when its holder is gone or gives it up another takes it."""
    ids = await settled(server, shard)
    holder = Lease(server, shard.trimmer, 60_000)
    assert await holder.take()
    await look(valkey_url, shard, OLD)
    assert await left(server, shard) == ids
    await holder.leave()
    await look(valkey_url, shard, OLD)
    assert await left(server, shard) == []


async def test_who_comes_back_late_trims_nothing(server: Redis, shard: Shard) -> None:
    """Once its lease has run out, or is another's, a step removes nothing and takes the lease from nobody."""
    ids = await settled(server, shard)
    late, other, floor = Lease(server, shard.trimmer, 30), Lease(server, shard.trimmer, 60_000), AckFloor(server, shard)
    await late.take()
    await floor.survey()
    await until(other.take)
    assert await floor.trim(late.token, 30, EntryId(0, 2000, 0)) is None
    assert not await late.take()
    await late.leave()
    assert await left(server, shard) == ids
    assert await floor.trim(other.token, 60_000, EntryId(0, 2000, 0)) == len(ids)


async def test_archived_entries_go_exactly(valkey_url: str, server: Redis, shard: Shard, tmp_path: Path) -> None:
    """All that was removed is in the archive and nothing else is, over several files; what came after stays."""
    ids = await add(server, shard, [f"{ms}-{ms}" for ms in range(1, 2001)])
    young = await add(server, shard, ["*"] * 3)
    await group(server, shard, "done", read=5000)
    await register(server, shard, "done")
    await look(
        valkey_url, shard, RetentionPolicy(DAY_MS, 1024**3, together=True), Archive(tmp_path, file_bytes=300_000)
    )
    assert await left(server, shard) == young
    assert [entry.id.redis.encode() for entry in read(tmp_path, shard.stream)] == ids
    assert len(files(tmp_path)) == 3


async def test_what_goes_to_an_archive_goes_together(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path
) -> None:
    """Entries wait for each other for an hour at most, and a stream that is too large is cut down by a 32nd."""
    hour_ms = DAY_MS // 24
    now_ms = time.time_ns() // 1_000_000
    week = RetentionPolicy(7 * DAY_MS, 1024**3, together=True)
    await add(server, shard, [now_ms - 7 * DAY_MS - hour_ms // 2], b"one")
    await group(server, shard, "done", read=1)
    await register(server, shard, "done")
    await look(valkey_url, shard, week, Archive(tmp_path))
    assert len(await left(server, shard)) == 1
    large = RetentionPolicy(36_500 * DAY_MS, 1024**2, together=True)
    ids = await add(server, shard, ["*"] * 2500)
    await server.xreadgroup("done", "c", {shard.stream: ">"}, noack=True)
    await look(valkey_url, shard, large, Archive(tmp_path))
    assert 0.93 < int(await server.memory_usage(shard.stream) or 0) / 1024**2 < 0.98
    assert ids[-1] == (await left(server, shard))[-1]


@pytest.fixture
async def full(tmp_path: Path, shard: Shard) -> AsyncIterator[tuple[str, Redis]]:
    """A server at its limit, its stream settled."""
    async with Valkey(tmp_path / "valkey").running() as valkey:
        server = connect.client(valkey.url)
        await settled(server, shard)
        await server.config_set("maxmemory", "1")
        yield valkey.url, server
        await server.aclose()


async def test_a_full_server_is_trimmed(full: tuple[str, Redis], shard: Shard) -> None:
    """That is when it is needed most: neither the lease nor a step wants memory."""
    url, server = full
    with pytest.raises(OutOfMemoryError):
        await add(server, shard, ["*"])
    await look(url, shard, OLD)
    assert await left(server, shard) == []


async def test_half_of_the_servers_memory_is_the_default(full: tuple[str, Redis], shard: Shard) -> None:
    """Without one, 1 GiB."""
    url, server = full
    await server.config_set("maxmemory", "200000")
    await look(url, shard, RetentionPolicy(36_500 * DAY_MS, None, together=False))
    assert 50_000 < int(await server.memory_usage(shard.stream) or 0) <= 100_000 + 4200
    await server.config_set("maxmemory", "0")
    before = await left(server, shard)
    await look(url, shard, RetentionPolicy(36_500 * DAY_MS, None, together=False))
    assert await left(server, shard) == before
