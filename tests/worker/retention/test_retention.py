import time
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from stream.entry import EntryId
from stream.keys import Shard
from tests.support.streams.retention import DAY_MS, LARGE, LARGE_BYTES, OLD, add, group, read_ids, register, trim_once
from tests.support.waiting import until
from worker.group.lease import Lease
from worker.retention.ack_floor import AckFloor
from worker.retention.archive_reader import read
from worker.retention.archive_writer import Archive
from worker.retention.policy import RetentionPolicy

either_limit = pytest.mark.parametrize("retention", [OLD, LARGE], ids=["age", "bytes"])


async def fill_settled_stream(server: Redis, shard: Shard, entries: int = 1000) -> list[bytes]:
    """Fill a stream whose only registered group has acked everything."""
    ids = await add(server, shard, range(1, entries + 1))
    await group(server, shard, "done", read=entries)
    await register(server, shard, "done")
    return ids


def files(archive: Path) -> list[Path]:
    return list(archive.glob("*.gz"))


async def check_starts_at(server: Redis, shard: Shard, ids: list[bytes], start: int) -> None:
    """Check that all entries from this one on are there, and before it at most those of the same node."""
    remaining = await read_ids(server, shard)
    assert ids[start:] == remaining[-len(ids[start:]) :]
    assert len(remaining) < len(ids) - start + 10


@either_limit
async def test_entries_that_every_group_has_settled_are_trimmed(
    valkey_url: str, server: Redis, shard: Shard, retention: RetentionPolicy
) -> None:
    """All old entries are removed, or entries of a large stream until it is small enough."""
    ids = await fill_settled_stream(server, shard)
    await trim_once(valkey_url, shard, retention)
    remaining = await read_ids(server, shard)
    if retention is OLD:
        assert remaining == []
    else:
        assert remaining == ids[-len(remaining) :]
        assert 1 < len(remaining) < 20
        assert int(await server.memory_usage(shard.stream) or 0) <= LARGE_BYTES + 4200


async def test_younger_entries_stay(valkey_url: str, server: Redis, shard: Shard) -> None:
    """The age counts from the id of an entry, which has the time of the append by the clock of the server."""
    now_ms = time.time_ns() // 1_000_000
    ids = await add(server, shard, [now_ms - DAY_MS * days for days in (3, 2, 1)] + [now_ms - DAY_MS + 60_000, "*"])
    await group(server, shard, "done", read=10)
    await register(server, shard, "done")
    await trim_once(valkey_url, shard, OLD)
    assert await read_ids(server, shard) == ids[3:]


@either_limit
@pytest.mark.parametrize("registered", [True, False])
async def test_a_group_that_never_reads_keeps_everything(
    valkey_url: str, server: Redis, shard: Shard, retention: RetentionPolicy, registered: bool
) -> None:
    """A registered group and a group of another program both block trimming."""
    ids = await fill_settled_stream(server, shard)
    await group(server, shard, "never")
    if registered:
        await register(server, shard, "never")
    await trim_once(valkey_url, shard, retention)
    assert await read_ids(server, shard) == ids


@either_limit
async def test_an_entry_in_flight_blocks_trimming(
    valkey_url: str, server: Redis, shard: Shard, retention: RetentionPolicy
) -> None:
    """The oldest entry that a group has not acked stays, with all later entries."""
    ids = await fill_settled_stream(server, shard)
    await group(server, shard, "slow", read=995, ack=990)
    await trim_once(valkey_url, shard, retention)
    await check_starts_at(server, shard, ids, 990)
    await server.xack(shard.stream, "slow", *ids[990:995])
    await trim_once(valkey_url, shard, OLD)
    assert await read_ids(server, shard) == ids[995:]


@either_limit
@pytest.mark.parametrize(
    ("checkpoint", "kept_from"),
    [("990-0", 990), (None, 0), ("1001-0", 0), ("1e3", 0), ("990-18446744073709551615", 990)],
)
async def test_a_registered_group_that_is_missing_has_its_floor_at_its_checkpoint(
    valkey_url: str, server: Redis, shard: Shard, retention: RetentionPolicy, checkpoint: str | None, kept_from: int
) -> None:
    """Without a checkpoint, or with one past the end of the stream, all entries stay."""
    ids = await fill_settled_stream(server, shard)
    await register(server, shard, "missing")
    if checkpoint:
        await server.set(shard.checkpoint("missing"), checkpoint)
    await trim_once(valkey_url, shard, retention)
    await check_starts_at(server, shard, ids, kept_from)


@either_limit
async def test_without_a_registered_group_all_entries_stay(
    valkey_url: str, server: Redis, shard: Shard, retention: RetentionPolicy
) -> None:
    """Acks of groups of other programs do not count."""
    ids = await fill_settled_stream(server, shard)
    await server.delete(shard.groups)
    await trim_once(valkey_url, shard, retention)
    assert await read_ids(server, shard) == ids


@pytest.mark.parametrize("registered", [True, False])
async def test_a_group_created_in_the_middle_keeps_the_remaining_entries(
    server: Redis, shard: Shard, registered: bool
) -> None:
    """The next step respects a new group of another program, and a group that is only registered."""
    ids = await fill_settled_stream(server, shard)
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
    assert await read_ids(server, shard) == ids[removed:]


async def test_when_a_group_is_dropped_the_trimmer_surveys_again(server: Redis, shard: Shard) -> None:
    """A step with an outdated set of groups removes no entries, above all if no group is left."""
    ids = await fill_settled_stream(server, shard)
    floor, lease = AckFloor(server, shard), Lease(server, shard.trimmer, 5000)
    await lease.take()
    await floor.survey()
    await server.srem(shard.groups, "done")
    assert await floor.trim(lease.token, 5000, EntryId(0, 2000, 0)) is None
    assert await read_ids(server, shard) == ids


async def test_one_process_trims_at_a_time(valkey_url: str, server: Redis, shard: Shard) -> None:
    """A process without the lease does nothing; another one takes the lease after its holder has ended."""
    ids = await fill_settled_stream(server, shard)
    holder = Lease(server, shard.trimmer, 60_000)
    assert await holder.take()
    await trim_once(valkey_url, shard, OLD)
    assert await read_ids(server, shard) == ids
    await holder.leave()
    await trim_once(valkey_url, shard, OLD)
    assert await read_ids(server, shard) == []


async def test_a_late_trimmer_trims_nothing(server: Redis, shard: Shard) -> None:
    """After the lease has expired or changed hands, a step removes no entries and does not take the lease."""
    ids = await fill_settled_stream(server, shard)
    late, next_lease, floor = (
        Lease(server, shard.trimmer, 30),
        Lease(server, shard.trimmer, 60_000),
        AckFloor(server, shard),
    )
    await late.take()
    await floor.survey()
    await until(next_lease.take)
    assert await floor.trim(late.token, 30, EntryId(0, 2000, 0)) is None
    assert not await late.take()
    await late.leave()
    assert await read_ids(server, shard) == ids
    assert await floor.trim(next_lease.token, 60_000, EntryId(0, 2000, 0)) == len(ids)


async def test_exactly_the_archived_entries_are_removed(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path
) -> None:
    """The archive has all removed entries and no others, in several files; later entries stay."""
    ids = await add(server, shard, [f"{ms}-{ms}" for ms in range(1, 2001)])
    young = await add(server, shard, ["*"] * 3)
    await group(server, shard, "done", read=5000)
    await register(server, shard, "done")
    await trim_once(
        valkey_url, shard, RetentionPolicy(DAY_MS, 1024**3, together=True), Archive(tmp_path, file_bytes=300_000)
    )
    assert await read_ids(server, shard) == young
    assert [entry.id.redis.encode() for entry in read(tmp_path, shard.stream)] == ids
    assert len(files(tmp_path)) == 3


async def test_entries_for_the_archive_are_collected(
    valkey_url: str, server: Redis, shard: Shard, tmp_path: Path
) -> None:
    """Entries wait for each other for at most an hour, and a large stream is trimmed by a 32nd."""
    hour_ms = DAY_MS // 24
    now_ms = time.time_ns() // 1_000_000
    week = RetentionPolicy(7 * DAY_MS, 1024**3, together=True)
    await add(server, shard, [now_ms - 7 * DAY_MS - hour_ms // 2], b"one")
    await group(server, shard, "done", read=1)
    await register(server, shard, "done")
    await trim_once(valkey_url, shard, week, Archive(tmp_path))
    assert len(await read_ids(server, shard)) == 1
    large = RetentionPolicy(36_500 * DAY_MS, 1024**2, together=True)
    ids = await add(server, shard, ["*"] * 2500)
    await server.xreadgroup("done", "c", {shard.stream: ">"}, noack=True)
    await trim_once(valkey_url, shard, large, Archive(tmp_path))
    assert 0.93 < int(await server.memory_usage(shard.stream) or 0) / 1024**2 < 0.98
    assert ids[-1] == (await read_ids(server, shard))[-1]


@pytest.fixture
async def full_server(own_server: tuple[str, Redis], shard: Shard) -> tuple[str, Redis]:
    """Return a server at its memory limit with a settled stream."""
    await fill_settled_stream(own_server[1], shard)
    await own_server[1].config_set("maxmemory", "1")
    return own_server


async def test_a_full_server_is_trimmed(full_server: tuple[str, Redis], shard: Shard) -> None:
    """Neither the lease nor a step needs memory, because a full server needs trimming most."""
    url, server = full_server
    with pytest.raises(OutOfMemoryError):
        await add(server, shard, ["*"])
    await trim_once(url, shard, OLD)
    assert await read_ids(server, shard) == []


async def test_half_of_the_servers_memory_is_the_default(full_server: tuple[str, Redis], shard: Shard) -> None:
    """Without maxmemory the default is 1 GiB."""
    url, server = full_server
    await server.config_set("maxmemory", "200000")
    await trim_once(url, shard, RetentionPolicy(36_500 * DAY_MS, None, together=False))
    assert 50_000 < int(await server.memory_usage(shard.stream) or 0) <= 100_000 + 4200
    await server.config_set("maxmemory", "0")
    before = await read_ids(server, shard)
    await trim_once(url, shard, RetentionPolicy(36_500 * DAY_MS, None, together=False))
    assert await read_ids(server, shard) == before
