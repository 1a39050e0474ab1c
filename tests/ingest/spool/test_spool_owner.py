"""Whose entries a folder of the spool holds, and who may drain them."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from ingest.spool import folder as folder_module
from ingest.spool import queue
from ingest.spool.folder import SpoolFolder, read_owner
from ingest.spool.queue import open_spool
from runtime import disk
from stream.keys import Shard
from stream.server_id import ensure_server_id, read_server_id
from tests.support.faults.redis_outages import open_sender, read_metric, run_proxied_redis
from tests.support.processes import Ingest, Valkey
from tests.support.samples.spool_folders import (
    ENOUGH_BYTES,
    OWNER,
    drain_files,
    open_files,
    spool_and_end,
)
from tests.support.samples.spooled import pack_entries
from tests.support.waiting import until


def test_what_was_spooled_for_a_server_is_drained_to_it_alone(tmp_path: Path) -> None:
    """Another server at the same address gets none of them; their number is logged, and new ones are spooled apart."""
    spool_and_end(tmp_path, OWNER, "one", 1, 2)

    second = open_files(tmp_path, owner=OWNER)
    second.bind("two")
    assert drain_files(second) == []
    assert read_metric("spool_foreign_entries") == 2
    second.put(pack_entries(3))
    assert {path.parent.name for path in tmp_path.glob("spool/*/*.db")} == {"0", "1"}
    second.close()

    third = open_files(tmp_path, owner=OWNER)
    third.bind("one")
    assert drain_files(third) == [1, 2]
    third.close()
    assert read_metric("spool_foreign_entries") == 1


def test_another_stream_of_the_same_server_gets_nothing(tmp_path: Path) -> None:
    """Nor does it once it knows that the server is the same."""
    spool_and_end(tmp_path, OWNER, "one", 1)
    files = open_files(tmp_path, owner=replace(OWNER, stream="other:{0}"))
    files.bind("one")
    assert drain_files(files) == []
    files.close()


def test_a_server_is_the_same_under_another_address(tmp_path: Path) -> None:
    """A new name or port of one server, known by its id, gets what was spooled for it."""
    spool_and_end(tmp_path, OWNER, "one", 1)
    files = open_files(tmp_path, owner=replace(OWNER, redis="redis://redis.internal:6379"))
    files.bind("one")
    assert drain_files(files) == [1]
    files.close()


def test_before_redis_has_answered_only_the_address_counts(tmp_path: Path) -> None:
    """Spooled by processes that never reached Redis: one folder for all, drained to the server at that address."""
    spool_and_end(tmp_path, OWNER, None, 1)
    spool_and_end(tmp_path, replace(OWNER, redis="redis://10.0.0.1:6379"), None, 2)
    files = open_files(tmp_path, owner=OWNER)
    files.put(pack_entries(3))
    files.bind("one")
    assert drain_files(files) == [1, 3]
    files.close()
    owner = read_owner(tmp_path / "spool" / "0")
    assert owner == replace(OWNER, server="one")


def test_what_waits_for_an_answer_is_taken_when_it_comes(tmp_path: Path) -> None:
    """Started while Redis is away: new entries go to a folder of their own, and both are drained to the same server."""
    spool_and_end(tmp_path, OWNER, "one", 1)
    files = open_files(tmp_path, owner=OWNER)
    assert read_metric("spool_foreign_entries") == 1
    files.put(pack_entries(2))
    files.bind("one")
    assert sorted(drain_files(files)) == [1, 2]
    assert read_metric("spool_foreign_entries") == 0
    files.close()


def test_a_server_that_turns_into_another_one_leaves_a_folder_behind(tmp_path: Path) -> None:
    """Entries for the first server stay; later entries are drained to the second."""
    files = open_files(tmp_path, owner=OWNER)
    files.bind("one")
    files.put(pack_entries(1))
    files.bind("two")
    files.put(pack_entries(2))
    assert drain_files(files) == [2]
    assert read_metric("spool_foreign_entries") == 1
    files.close()


async def test_a_server_is_named_once(server: Redis, shard: Shard) -> None:
    """The first id stays; to look makes none."""
    assert await read_server_id(server, shard) is None
    assert await ensure_server_id(server, shard, "one") == "one"
    assert await ensure_server_id(server, shard, "two") == "one"
    assert await read_server_id(server, shard) == "one"


async def test_a_redis_that_lost_its_data_gets_what_was_spooled_for_it(tmp_path: Path, shard: Shard) -> None:
    """Restarted empty at the same address, with ingest restarted too: it takes its old id, and nothing is stranded."""
    async with run_proxied_redis(tmp_path / "valkey", shard) as away:
        ingest = Ingest(tmp_path, **away.settings)
        async with ingest.run():
            away.kill()
            async with open_sender(ingest.url) as sender:
                assert await sender.posts(5) == [200] * 5
        await away.start()
        await away.run_command("FLUSHALL")
        async with ingest.run():
            await away.has(sender.accepted_ids)


async def test_production_s_spool_never_goes_to_another_redis(tmp_path: Path, shard: Shard) -> None:
    """With another server, as `ackstream up` starts one, old entries stay, and the log has the next step."""
    async with run_proxied_redis(tmp_path / "valkey", shard) as away, Valkey(tmp_path / "other").run() as second:
        async with Ingest(tmp_path, **away.settings).run() as ingest, open_sender(ingest.url) as sender:
            assert await sender.post() == 200
            away.kill()
            assert await sender.post() == 200
        wrong = Ingest(tmp_path, redis_url=second.url, stream=shard.name, log_format="json")
        async with wrong.run(), open_sender(wrong.url) as other_sender:
            assert await other_sender.post() == 200
            (report,) = wrong.process.read_log("spool.foreign")
            assert report["entries"] == 1
            assert "ackstream spool adopt 0" in report["what"]
        await away.start()
        async with Ingest(tmp_path, **away.settings).run():
            await away.has(sender.accepted_ids)

        async def has_two() -> bool:
            return len(await away.entries()) == 2

        await until(has_two)


async def test_the_loop_never_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the volume hangs at statvfs, `not_ready_reason` answers at once that the disk does not answer."""
    answers = threading.Event()
    async with open_spool(tmp_path, OWNER, ENOUGH_BYTES) as spool:
        monkeypatch.setattr(queue, "ANSWER_SECONDS", 0.05)
        monkeypatch.setattr(SpoolFolder, "free_bytes", lambda _: answers.wait() and (2**40, 2**40))
        await spool.refresh()
        began = time.perf_counter()
        assert spool.not_ready_reason == "the spool's disk does not answer"
        assert time.perf_counter() - began < 60  # else it would wait without an end
        answers.set()

        async def is_back() -> bool:
            await spool.refresh()
            return spool.not_ready_reason is None

        await until(is_back)


def test_each_folder_that_is_made_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing parents of the data folder are created; the name of each is fsynced in its parent, outermost first."""
    synced: list[Path] = []
    monkeypatch.setattr(disk, "sync_folder", synced.append)
    monkeypatch.setattr(folder_module, "make_folder", disk.make_folder)
    SpoolFolder.claim(tmp_path / "a" / "b" / "data", OWNER).release()
    folders = [tmp_path, tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "data"]
    assert synced[: len(folders) + 1] == [*folders, tmp_path / "a" / "b" / "data" / "spool"]


def test_on_macos_the_disk_s_own_cache_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On systems with F_FULLFSYNC it is used for files and folders."""
    asked: list[int] = []
    monkeypatch.setattr(disk, "FULL_SYNC", 51)
    monkeypatch.setattr("runtime.disk.fcntl.fcntl", lambda _, command: asked.append(command))
    disk.write_file(tmp_path / "file", b"content")
    assert asked == [51, 51]
