"""The rounds of the crash tests: their number, their random payloads, stops, and a check of the stored rows."""

import itertools
import os
import random
import secrets
import signal
from collections.abc import Iterator
from datetime import UTC, datetime

from console.queries.stats import gather_stats
from console.simulate.plan import plan
from tests.support.processes import Process
from tests.support.waiting import until
from tests.support.workers.store_rows import project_rows, read_rows
from tests.support.workers.worker_cluster import GROUP, WorkerCluster
from worker import timing
from worker.events.vonage import parse
from worker.store.projection import dedupe

# Read at import, because a test sees no setting of the machine. A round takes about 10 s.
ROUNDS = int(os.environ.get("ACKSTREAM_CRASH_ROUNDS", "1"))
SEED = int(os.environ.get("ACKSTREAM_CRASH_SEED", "0")) or secrets.randbits(32)
ROUND_ENTRIES = 2_000
PACE = 0.3  # a worker is dead after 4.5 s: a live worker beats in time also on a busy machine
TIMING = timing.TIMING.scale(PACE)


def make_payloads(number: int, seed: int = SEED) -> list[bytes]:
    """Return statuses of random messages, up to three of each, in random order, no two equal."""
    webhooks = list(plan(number, seed, start=datetime.now(UTC), shuffle=True))
    return [webhook.body for webhook in webhooks[:number]]


def portions(entries: int) -> Iterator[list[bytes]]:
    """Yield lists of different payloads without end."""
    return (make_payloads(entries, seed) for seed in itertools.count(SEED))


def choose_moments(rng: random.Random, number: int, entries: int = ROUND_ENTRIES) -> list[int]:
    """Choose when to interfere: numbers of entries left, high enough that work remains after each."""
    return sorted((rng.randint(entries // 2, entries) for _ in range(number)), reverse=True)


async def stop_with_a_batch(work: WorkerCluster, worker: Process, portion: Iterator[list[bytes]]) -> set[str]:
    """Stop the worker at a moment at which it has entries in hand; under which name. Append more if need be."""

    async def in_hand() -> set[str]:
        return await work.in_hand(worker) & await work.find_beating()  # not what it gave up earlier

    async def is_caught() -> bool:
        if not await work.unread():
            await work.append(next(portion))
        worker.send(signal.SIGSTOP)
        if not (caught := await in_hand()):
            worker.send(signal.SIGCONT)
        return bool(caught)

    await until(is_caught)
    return await in_hand()


async def check_stored_once(work: WorkerCluster) -> None:
    """Assert that each event has its row and each message its state, and that no entry waits anywhere."""
    await work.is_down_to(0)
    events = [parse(entry, f"0/{entry_id}") for entry_id, entry in work.appended]
    stored_messages, stored_events = await read_rows(work.engine)
    assert len(stored_events) == len(events)
    assert {event_id: stored["event"] for event_id, stored in stored_events.items()} == dedupe(events)
    assert stored_messages == project_rows(events)
    group = (await gather_stats(work.server, [work.shard]))["groups"][GROUP]
    assert {name: group[name] for name in ("unread", "pending", "dead")} == {"unread": 0, "pending": 0, "dead": 0}
