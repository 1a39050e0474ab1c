"""Makes the objects of one handler's group from the settings: a consumer for each shard, with shared parts."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from redis.asyncio import Redis

from stream.keys import Shard
from stream.layout import Layout
from stream.redis.cluster import at_key, is_cluster
from stream.shard_watch import ShardWatch
from worker.consumer.consumer import Consumer
from worker.consumer.consumer_set import ConsumerSet
from worker.consumer.fetcher import Fetcher
from worker.consumer.ordered_fetcher import OrderedFetcher
from worker.consumer.processor import Processor
from worker.consumer.upkeep import Upkeep
from worker.dispatch.backlog import Backlog
from worker.dispatch.circuit import Circuit
from worker.dispatch.circuit_breaker import CircuitBreaker
from worker.dispatch.dispatcher import Dispatcher
from worker.dispatch.pause import Pause
from worker.dispatch.slots import Slots
from worker.dispatch.suspects import Suspects
from worker.dispatch.target_check import TargetCheck
from worker.group.claim import Claimer
from worker.group.consumer_group import ConsumerGroup
from worker.group.group_ref import GroupRef
from worker.group.heartbeat import Heartbeat
from worker.group.poison import PoisonTracker
from worker.handler_loader import LoadedHandler
from worker.order.message_order import MessageOrder
from worker.settings import WorkerSettings
from worker.settle.ack_writer import AckWriter
from worker.settle.dedup import Deduplicator, DedupWindow
from worker.settle.delayed import DelayedRetries
from worker.settle.history import History
from worker.settle.settler import Settler
from worker.timing import Timing

SHORTEST_SECRET = 6  # a shorter text also occurs by chance in the text of an error


class GroupWiring:
    """Makes the consumers of one group, one for each shard, with the parts that they share here.

    The second client is for blocking reads. All groups share ``turn``.
    """

    def __init__(
        self,
        clients: tuple[Redis, Redis],
        settings: WorkerSettings,
        name: str,
        loaded: LoadedHandler,
        watch: ShardWatch,
        turn: asyncio.Lock,
        stop: asyncio.Event,
        timing: Timing,
    ) -> None:
        self._clients = clients
        self._settings = settings
        self._name = name
        self._loaded = loaded
        self._watch = watch
        self._turn = turn
        self._stop = stop
        self._timing = timing
        home = GroupRef(clients[0], settings.shard, name)
        self._prober = Heartbeat(home, timing=timing)  # of shard 0, like the pause
        self._pause = Pause(home, settings.dead_letters, timing=timing, shards=watch.shards)
        self._backlog = Backlog(home, settings.backlog_bytes, watch.shards)
        self._slots = Slots(loaded.limits.concurrency)
        self._breaker = CircuitBreaker(time.monotonic, timing.trip, timing.window)
        self._ordered = settings.order == "message" and loaded.uses_order
        self._owned: set[int] = set()
        self._circuits: list[Circuit] = []
        self._dispatchers: list[Dispatcher] = []

    def make_consumer(self, shard: Shard) -> Consumer:
        """Make the consumer of the group on a shard."""
        group = GroupRef(self._clients[0], shard, self._name)
        heartbeat = Heartbeat(group, timing=self._timing) if shard.number else self._prober
        poison = PoisonTracker(group)
        order = MessageOrder(group, heartbeat, poison, self._owned, self._count_shards) if self._ordered else None
        circuit = Circuit(
            self._name,
            self._loaded.limits,
            self._pause,
            is_late=heartbeat.is_late if order is None else order.is_closing,
            timing=self._timing,
            breaker=self._breaker,
        )
        dispatcher = self._make_dispatcher(shard, circuit, Suspects(poison, heartbeat, self._turn))
        settler, window = self._make_settler(group, order), self._dedup_window
        processor = Processor(
            self._name,
            dispatcher,
            circuit,
            self._loaded.policy,
            self._make_writer(group, settler, heartbeat, poison, order),
            heartbeat,
            poison,
            self._stop,
            dedup=None if window is None else Deduplicator(group, window, self._read_layout),
            secrets=secrets_of(self._settings),
            accepts=self._loaded.accepts,
            prober=self._prober,
            hangs=lambda: any(each.hangs for each in self._dispatchers),
            order=order,
        )
        if order is not None:
            heartbeat.may_leave = lambda: not dispatcher.started
        fetcher, claimer = self._make_reading(group, heartbeat, poison, order)
        upkeep = self._make_upkeep(group, circuit, settler, order)
        servers = [at_key(client, shard.stream) for client in self._clients]
        return Consumer(servers, fetcher, group, heartbeat, claimer, processor, dispatcher, upkeep, order)

    @property
    def _dedup_window(self) -> DedupWindow | None:
        window = self._settings.dedup_window if self._loaded.uses_dedup else None
        is_local = self._ordered and is_cluster(self._clients[0])
        return window and replace(window, is_local=is_local)

    def _read_layout(self) -> Layout:
        return self._watch.layout

    def _count_shards(self) -> int:
        return len(self._watch.shards)

    def _make_settler(self, group: GroupRef, order: MessageOrder | None) -> Settler:
        limits, fence = self._settings.record_limits, None if order is None else order.fence
        return Settler(group, self._dedup_window, limits, self._timing.give_up, self._read_layout, fence=fence)

    def _make_writer(
        self,
        group: GroupRef,
        settler: Settler,
        heartbeat: Heartbeat,
        poison: PoisonTracker,
        order: MessageOrder | None,
    ) -> AckWriter:
        history, gate = History(group), None if order is None else order.gate
        measure, latest = partial(self._backlog.measure, group.shard), self._latest_success
        return AckWriter(self._name, settler, history, heartbeat, poison, measure, latest, gate)

    def _make_reading(
        self, group: GroupRef, heartbeat: Heartbeat, poison: PoisonTracker, order: MessageOrder | None
    ) -> tuple[Fetcher, Claimer]:
        blocking, entries = replace(group, server=self._clients[1]), self._loaded.limits.batch_entries
        if order is None:
            return Fetcher(blocking, heartbeat, entries), Claimer(group, heartbeat, poison)
        return OrderedFetcher(blocking, heartbeat, entries, order.fence), order.claimer

    def _make_dispatcher(self, shard: Shard, circuit: Circuit, suspects: Suspects) -> Dispatcher:
        self._circuits.append(circuit)
        circuits, is_first = (self._circuits, True) if shard.number == 0 else ([circuit], False)
        limits, target = self._loaded.limits, TargetCheck(self._loaded.check, circuits, self._timing, repeats=is_first)
        dispatcher = Dispatcher(
            self._loaded.handler,
            limits,
            circuit,
            suspects,
            self._backlog,
            target,
            slots=self._slots,
            traced=self._loaded.traced,
        )
        self._dispatchers.append(dispatcher)
        return dispatcher

    def _make_upkeep(self, group: GroupRef, circuit: Circuit, settler: Settler, order: MessageOrder | None) -> Upkeep:
        retries = DelayedRetries(group) if order is None else DelayedRetries(group, order.count_waiting_retries)
        return Upkeep(
            ConsumerGroup(group),
            retries,
            self._pause,
            self._backlog,
            circuit,
            settler,
            self._watch.refresh,
            self._latest_success,
            refreshes=group.shard.number == 0,
            timing=self._timing,
        )

    def _latest_success(self) -> float | None:
        """Return the start of the latest successful call on any shard; None without one."""
        starts = (circuit.latest_success for circuit in self._circuits)
        return max((start for start in starts if start is not None), default=None)


def make_consumers(
    clients: tuple[Redis, Redis],
    settings: WorkerSettings,
    handlers: Mapping[str, LoadedHandler],
    watch: ShardWatch,
    stop: asyncio.Event,
    timing: Timing,
) -> ConsumerSet:
    """Make the consumers of all groups. The second client is for blocking reads."""
    turn = asyncio.Lock()
    wirings = [
        GroupWiring(clients, settings, name, loaded, watch, turn, stop, timing) for name, loaded in handlers.items()
    ]
    return ConsumerSet(lambda shard: [wiring.make_consumer(shard) for wiring in wirings])


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
