"""The objects of one group, made as wiring makes them, for tests that use them without a process."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from stream.keys import Shard
from worker.consumer.processor import Processor
from worker.dispatch.backlog import Backlog
from worker.dispatch.call import Handler, Limits
from worker.dispatch.circuit import Circuit
from worker.dispatch.dispatcher import Dispatcher
from worker.dispatch.pause import Pause
from worker.dispatch.suspects import Suspects
from worker.dispatch.target_check import Check, TargetCheck
from worker.group.claim import Claimer
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat
from worker.group.poison import PoisonTracker
from worker.settle.ack_writer import AckWriter
from worker.settle.dedup import Deduplicator, DedupWindow
from worker.settle.history import History
from worker.settle.retry_policy import RetryPolicy
from worker.settle.settler import Settler
from worker.timing import TIMING, Timing

GROUP = "g"


@dataclass(frozen=True, slots=True)
class Parts:
    """The objects of group g."""

    heartbeat: Heartbeat
    poison: PoisonTracker
    claimer: Claimer
    pause: Pause
    backlog: Backlog
    circuit: Circuit
    dispatcher: Dispatcher
    settler: Settler
    processor: Processor


def make_parts(
    server: Redis,
    shard: Shard,
    handler: Handler,
    *,
    limits: Limits | None = None,
    policy: RetryPolicy | None = None,
    stop: asyncio.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
    memory: DedupWindow | None = None,
    heartbeat: Heartbeat | None = None,
    timing: Timing = TIMING,
    secrets: Sequence[str] = (),
    chance: Callable[[], float] = lambda: 0.5,
    check: Check | None = None,
    repeats: bool = True,
) -> Parts:
    """Make them; a retry comes after half the longest delay unless ``chance`` says otherwise."""
    limits = limits or Limits()
    heartbeat = heartbeat or Heartbeat(GroupRef(server, shard, GROUP), clock, timing)
    poison = PoisonTracker(GroupRef(server, shard, GROUP))
    pause = Pause(GroupRef(server, shard, GROUP), 100, clock, chance, timing)
    backlog = Backlog(GroupRef(server, shard, GROUP))
    circuit = Circuit(GROUP, limits, pause, is_late=heartbeat.is_late, clock=clock, timing=timing)
    target = TargetCheck(check, [circuit], timing, clock, repeats=repeats)
    suspects = Suspects(poison, heartbeat, asyncio.Lock())
    dispatcher = Dispatcher(handler, limits, circuit, suspects, backlog, target, clock)
    settler = Settler(GroupRef(server, shard, GROUP), memory, None, timing.give_up, clock=clock)
    writer = AckWriter(
        GROUP,
        settler,
        History(GroupRef(server, shard, GROUP)),
        heartbeat,
        poison,
        backlog.measure,
        lambda: circuit.latest_success,
    )
    processor = Processor(
        GROUP,
        dispatcher,
        circuit,
        policy or RetryPolicy(),
        writer,
        heartbeat,
        poison,
        stop or asyncio.Event(),
        dedup=None if memory is None else Deduplicator(GroupRef(server, shard, GROUP), memory),
        secrets=secrets,
        chance=chance,
    )
    claimer = Claimer(GroupRef(server, shard, GROUP), heartbeat, poison)
    return Parts(heartbeat, poison, claimer, pause, backlog, circuit, dispatcher, settler, processor)
