import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from stream.keys import Shard
from tests.support.http.load import open_load
from tests.support.processes import Ingest, Valkey, answer
from tests.support.waiting import until
from tests.support.workers.crash_rounds import (
    PACE,
    ROUND_ENTRIES,
    ROUNDS,
    SEED,
    TIMING,
    check_stored_once,
    choose_moments,
    make_payloads,
    portions,
    stop_with_a_batch,
)
from tests.support.workers.store_rows import project_rows, read_rows
from tests.support.workers.worker_cluster import BATCH_ENTRIES, GROUP, WorkerCluster, run_worker_cluster
from worker import timing
from worker.events.vonage import parse
from worker.store.projection import dedupe

pytestmark = pytest.mark.crash


ROUND_KILLS = 4
TAKEN_OVER_SECONDS = (
    TIMING.dead + 2 * TIMING.beat + 20
)  # another worker may wait this long for the locks of the dead one


@pytest.fixture
def rng() -> random.Random:
    """Chance, the same for a seed; ACKSTREAM_CRASH_SEED repeats a run as far as processes let it be repeated."""
    print(f"ACKSTREAM_CRASH_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    return random.Random(SEED)  # noqa: S311 - no secret


@pytest.fixture
async def work(valkey_url: str, shard: Shard, database_url: str, tmp_path: Path) -> AsyncIterator[WorkerCluster]:
    async with run_worker_cluster(valkey_url, shard, database_url, tmp_path, PACE) as work:
        yield work


@pytest.fixture
async def lonely(own_valkey: Valkey, shard: Shard, tmp_path: Path) -> AsyncIterator[WorkerCluster]:
    """Work on a Valkey of its own, stored in SQLite."""
    async with run_worker_cluster(own_valkey.url, shard, f"sqlite:///{tmp_path / 'lonely.db'}", tmp_path, PACE) as work:
        yield work


async def test_workers_killed_again_and_again_lose_nothing(work: WorkerCluster, rng: random.Random) -> None:
    """Two of three workers die at random moments: every event is stored once, none is buried, none stays pending."""
    workers, dead = await work.start(3), set[str]()
    portion = portions(ROUND_ENTRIES // ROUND_KILLS)
    for _ in range(ROUNDS):
        in_hand = set[str]()
        for _ in range(ROUND_KILLS):
            await work.append(next(portion))
            await work.is_down_to(*choose_moments(rng, 1, await work.left()))
            victim = rng.randrange(2)
            in_hand |= await stop_with_a_batch(work, workers[victim], portion)
            workers[victim].kill()
            (workers[victim],) = await work.start(1)
        dead |= in_hand
        await work.is_claimed_from(in_hand, seconds=TAKEN_OVER_SECONDS)  # then the next deaths fall into claims too
    await check_stored_once(work)
    assert work.find_claimed() <= dead, "a live worker was taken for dead"


async def test_a_worker_that_stood_still_comes_back_without_its_batch(work: WorkerCluster, rng: random.Random) -> None:
    """A worker stopped with a batch in flight counts as dead; it drops the batch and continues under a new name."""
    workers, dead, stood, portion = await work.start(3), set[str](), set[str](), portions(ROUND_ENTRIES)
    for number in range(1, ROUNDS + 1):
        await work.append(next(portion))
        await work.is_down_to(*choose_moments(rng, 1))
        still = await stop_with_a_batch(work, workers[0], portion)
        stopped_at = time.monotonic()
        workers[1].kill()
        stood |= still
        dead |= await work.in_hand(workers[1])
        workers[1] = work.worker()
        with suppress(AssertionError):  # a worker stopped inside SQLite's lock blocks all others
            await work.is_claimed_from(still, seconds=TIMING.dead + 2 * TIMING.beat + 2)
        assert time.monotonic() - stopped_at > TIMING.late, "a live worker was taken for dead"
        workers[0].send(signal.SIGCONT)
        await workers[0].has_logged("heartbeat.late", times=number)
        await workers[0].has_logged("consumer.dropped", times=number)
    await check_stored_once(work)
    assert stood <= work.find_claimed(), "a batch stayed with the stopped worker"
    previous_names = {
        name for name in work.find_claimed() if work.is_of(workers[0], name)
    }  # it left each of its names but the last
    assert work.find_claimed() - previous_names <= dead, "a live worker was taken for dead"


async def test_a_worker_told_to_stop_finishes_its_batch(work: WorkerCluster) -> None:
    """After SIGTERM it exits with 0 and has left nothing pending; another does the rest."""
    await work.append(make_payloads(ROUND_ENTRIES))
    stopping, _ = await work.start(2)
    await work.is_down_to(ROUND_ENTRIES * 4 // 5)
    stopping.send(signal.SIGTERM)
    assert await stopping.wait_for_end(10) == 0
    assert not await work.in_hand(stopping)
    await check_stored_once(work)
    assert work.find_claimed() == set()


async def test_what_a_stopped_worker_cannot_finish_is_taken_over_at_once(
    valkey_url: str, shard: Shard, postgresql_url: str, tmp_path: Path
) -> None:
    """When its grace is over it exits with 0; another has its entries in a few seconds, not 15."""
    async with run_worker_cluster(valkey_url, shard, postgresql_url, tmp_path) as work:
        stopping, worker = await work.start(2, grace_seconds="1")

        async def both_have_a_batch() -> bool:
            return bool(await work.in_hand(stopping) and await work.in_hand(worker))

        async with work.engine.begin() as connection:
            await connection.exec_driver_sql("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            await work.append(make_payloads(4 * BATCH_ENTRIES))
            await until(both_have_a_batch)
            stopping.send(signal.SIGTERM)
            assert await stopping.wait_for_end(10) == 0
            assert await work.in_hand(stopping)
        await work.is_down_to(0, seconds=timing.TIMING.dead / 2)
        await check_stored_once(work)


@pytest.fixture
async def ingest(lonely: WorkerCluster) -> AsyncIterator[Ingest]:
    """Ingest on a Valkey of its own."""
    ingest = Ingest(lonely.folder, redis_url=lonely.settings["redis_url"], stream=lonely.shard.name)
    async with ingest.run():
        yield ingest


@pytest.mark.parametrize("victim", ["ingest", "valkey"])
async def test_what_was_answered_200_is_on_the_stream(
    lonely: WorkerCluster, own_valkey: Valkey, ingest: Ingest, rng: random.Random, victim: str
) -> None:
    """Ingest or Valkey is killed under load and started again: each id that was answered 200 is there."""
    dying = ingest if victim == "ingest" else own_valkey
    async with open_load(ingest.url) as load:
        for _ in range(2 * ROUNDS):
            await load.keeps(rng.randrange(200, 1000))
            dying.kill()
            await dying.start()
        await load.keeps(200)
    assert (load.refused > 0) == (victim == "ingest"), "while Valkey is away everything is spooled"

    async def all_are_there() -> bool:  # spooled entries arrive a little later
        return set(load.accepted_ids) <= await lonely.on_stream()

    await until(all_are_there)


async def test_the_judge_is_not_blind(lonely: WorkerCluster, own_valkey: Valkey, ingest: Ingest) -> None:
    """On a Valkey that keeps nothing on the disk the same kill loses what was answered 200."""
    await lonely.server.config_set("appendonly", "no")
    async with open_load(ingest.url) as load:
        await load.keeps(200)
    own_valkey.kill()
    await own_valkey.start()
    assert not set(load.accepted_ids) <= await lonely.on_stream()


async def has_checkpoint(work: WorkerCluster) -> bool:
    """Whether the group has noted some progress."""
    return await work.server.get(work.shard.checkpoint(GROUP)) not in (None, b"0-0")


async def test_a_destroyed_group_goes_on_at_its_checkpoint(lonely: WorkerCluster, rng: random.Random) -> None:
    """After repeated XGROUP DESTROY during work the workers continue, and every entry is stored once."""
    workers = await lonely.start(2)
    await lonely.append(make_payloads(ROUND_ENTRIES))
    await until(lambda: has_checkpoint(lonely))
    for moment in choose_moments(rng, 3, await lonely.left()):
        await lonely.is_down_to(moment)
        await lonely.server.xgroup_destroy(lonely.shard.stream, GROUP)
    await check_stored_once(lonely)
    starts = [line["start"] for worker in workers for line in worker.read_log("group.created")]
    assert (len(starts), starts.count("0")) == (4, 1)
    assert all(worker.lives() for worker in workers)


@pytest.mark.parametrize("command", ["FLUSHALL", "DEL"])
async def test_a_lost_stream_is_read_from_its_beginning(lonely: WorkerCluster, command: str) -> None:
    """After FLUSHALL or DEL in the middle of work what comes is stored, though its ids are below the checkpoint."""
    workers = await lonely.start(2)
    bodies = make_payloads(ROUND_ENTRIES)
    await lonely.append(bodies[500:])
    await until(lambda: has_checkpoint(lonely))
    lonely.appended.clear()
    lose = (command, *([lonely.shard.stream] if command == "DEL" else []))
    await lonely.append(bodies[:500], entry_id="5-*", after=lose)
    await lonely.is_down_to(0)
    stored_messages, stored_events = await read_rows(lonely.engine)
    assert dedupe(parse(entry, f"0/{at}") for at, entry in lonely.appended).keys() <= stored_events.keys()
    assert stored_messages == project_rows([stored["event"] for stored in stored_events.values()])
    assert all(worker.lives() for worker in workers)


async def test_a_worker_waits_for_valkey(lonely: WorkerCluster, own_valkey: Valkey, rng: random.Random) -> None:
    """The worker is not ready while Valkey is away, and continues by itself afterwards: each entry is stored once."""
    (worker,) = await lonely.start(1)
    admin_port = worker.read_log("worker.started")[0]["admin_port"]
    await lonely.append(make_payloads(ROUND_ENTRIES))
    for moment in choose_moments(rng, 2):
        await lonely.is_down_to(moment)
        own_valkey.kill()
        await worker.has_logged("consumer.redis_fault", times=len(worker.read_log("consumer.redis_fault")) + 5)
        assert await answer(f"http://127.0.0.1:{admin_port}/ready") == 503
        await own_valkey.start()
        await worker.is_ready(admin_port)
        await lonely.is_down_to(max(await lonely.left() - 1, 0))
    await check_stored_once(lonely)
