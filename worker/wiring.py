"""Makes the objects of one handler's group from the settings."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from redis.asyncio import Redis

from worker.consumer.consumer import Consumer
from worker.consumer.fetcher import Fetcher
from worker.consumer.processor import Processor
from worker.consumer.upkeep import Upkeep
from worker.dispatch.backlog import Backlog
from worker.dispatch.circuit import Circuit
from worker.dispatch.dispatcher import Dispatcher
from worker.dispatch.pause import Pause
from worker.dispatch.suspects import Suspects
from worker.dispatch.target_check import TargetCheck
from worker.group.claim import Claimer
from worker.group.consumer_group import ConsumerGroup
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat
from worker.group.poison import PoisonTracker
from worker.handler_loader import LoadedHandler
from worker.settings import WorkerSettings
from worker.settle.ack_writer import AckWriter
from worker.settle.dedup import Deduplicator
from worker.settle.delayed import DelayedRetries
from worker.settle.history import History
from worker.settle.settler import Settler
from worker.timing import Timing

SHORTEST_SECRET = 6  # a shorter text also occurs by chance in the text of an error


def make_consumer(
    clients: tuple[Redis, Redis],
    settings: WorkerSettings,
    name: str,
    loaded: LoadedHandler,
    turn: asyncio.Lock,
    stop: asyncio.Event,
    timing: Timing,
) -> Consumer:
    """Make the consumer of one group. The second client is for blocking reads. All groups share ``turn``."""
    server, blocking = clients
    group = GroupRef(server, settings.shard, name)
    heartbeat = Heartbeat(group, timing=timing)
    poison = PoisonTracker(group)
    pause = Pause(group, settings.dead_letters, timing=timing)
    backlog = Backlog(group, settings.backlog_bytes)
    circuit = Circuit(name, loaded.limits, pause, is_late=heartbeat.is_late, timing=timing)
    target = TargetCheck(loaded.check, circuit, timing)
    dispatcher = Dispatcher(loaded.handler, loaded.limits, circuit, Suspects(poison, heartbeat, turn), backlog, target)
    memory = settings.memory if loaded.uses_dedup else None
    settler = Settler(group, memory, settings.record_limits, timing.give_up)
    history = History(group)
    writer = AckWriter(
        name, settler, history, heartbeat, poison, backlog.measure, lambda: circuit.succeeded_seconds_ago
    )
    processor = Processor(
        name,
        dispatcher,
        circuit,
        loaded.policy,
        writer,
        heartbeat,
        poison,
        stop,
        dedup=None if memory is None else Deduplicator(group, memory),
        secrets=secrets_of(settings),
        accepts=loaded.accepts,
    )
    upkeep = Upkeep(ConsumerGroup(group), DelayedRetries(group), pause, backlog, circuit, settler, timing)
    fetcher = Fetcher(replace(group, server=blocking), heartbeat, loaded.limits.batch_entries)
    claimer = Claimer(group, heartbeat, poison)
    return Consumer(clients, fetcher, group, heartbeat, claimer, processor, dispatcher, upkeep)


def secrets_of(settings: WorkerSettings) -> Sequence[str]:
    """Return all configured secrets and the passwords in URLs, to remove them from the texts of errors."""
    secrets: set[str] = set()
    for name in settings.secrets:
        for text in str(getattr(settings, name) or "").split(","):
            secrets |= {text, text.rpartition("=")[2] if "=" in text else "", *_passwords(text)}
    return sorted(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)


def _passwords(url: str) -> set[str]:
    try:
        return {urlsplit(url).password or ""}
    except ValueError:
        return set()
