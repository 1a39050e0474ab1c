"""Reads Redis for the sampler: the open work every time, and memory, settings and the newest failures now and then."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from console.queries.stats import GroupStats, ShardStats, StatsReader
from console.web.sampling.snapshot import Away, GroupSample, HandlerError, PauseSample, RedisSample
from ingest.append.server_checks import POLICY, REQUIRED, find_shortcomings
from stream.entry import read_due_ms, read_ms
from stream.keys import Shard
from stream.redis.client import limit_wait
from stream.redis.cluster import AwayShard, ask_answering, list_nodes
from stream.redis.errors import identify_fault, is_denied
from stream.redis.scripts import read_script
from stream.shard_watch import FindShards
from worker.events.event import mask_numbers
from worker.timing import TIMING

READ_SECONDS = 2.0
"""The time that a shard has to answer, and again all of them for the slower questions."""
SLOW_SECONDS = 5.0
DENIED_SECONDS = 600.0
"""A command that this user may not run is tried again after this time."""
FAILURES = 5
"""Dead letters, and retries of each end of the schedule, that are looked at for each group."""
SAMPLES = 100
"""Nodes of the stream that are measured for the estimate of its size."""
MOST_GROUPS = 200
WATCH_SECONDS = TIMING.beat + 1.0

FAILURES_SCRIPT = read_script(__file__, "failures.lua")


class RedisReader:
    """Reads all shards, also those that ``find_shards`` returns later.

    Every error of Redis becomes the reason of `RedisSample.away`, with the last numbers. The shards of a cluster that
    do not answer, while others do, are `RedisSample.away_shards`.
    """

    def __init__(self, server: Redis, find_shards: FindShards, clock: Callable[[], float] = time.time) -> None:
        self._server = server
        self._clock = clock
        self._find_shards = find_shards
        self._readers: dict[Shard, StatsReader] = {}
        self._failures = server.register_script(FAILURES_SCRIPT)
        self._liveness = Liveness()
        self._denied_until: dict[str, float] = {}
        self._slow_at = 0.0
        self._errors: Mapping[str, tuple[HandlerError, ...]] = {}
        self.sample = RedisSample()
        self.shards: Sequence[ShardStats] = ()
        """The stats of the last answer, without those of shards that are away."""
        self.groups: Mapping[str, GroupSample] = {}

    async def read(self) -> bool:
        """Read one moment; return whether Redis has answered."""
        try:
            async with limit_wait(READ_SECONDS):
                shards = tuple(await self._find_shards())
            answers, away = await ask_answering(self._server, shards, self._read_shard)
            async with limit_wait(READ_SECONDS):
                if self._clock() - self._slow_at >= SLOW_SECONDS:
                    await self._read_slowly(list(answers.values()))
                    self._slow_at = self._clock()
        except RedisError as exc:
            since = self.sample.away.since if self.sample.away else self._clock()
            self.sample = replace(self.sample, away=Away(identify_fault(exc).sentence, since), away_shards=())
            self._liveness = Liveness()
            return False
        self.shards = list(answers.values())
        self._update(tuple(away))
        return True

    def lose(self, away: Sequence[AwayShard]) -> None:
        """Leave these shards out until the next reading: they do not answer."""
        lost = {each.shard: each for each in (*away, *self.sample.away_shards)}
        named = tuple(lost[number] for number in sorted(lost))
        self.shards = [stats for stats in self.shards if stats.shard.number not in lost]
        if self.shards:
            self._update(named)
        else:  # the others were not read yet
            self.sample = replace(self.sample, away_shards=named)

    async def _read_shard(self, shard: Shard) -> ShardStats:
        if shard not in self._readers:
            self._readers[shard] = StatsReader(self._server, shard)
        async with limit_wait(READ_SECONDS):
            return await self._readers[shard].read()

    def _update(self, away: tuple[AwayShard, ...]) -> None:
        shards, now = self.shards, self._clock()
        oldest = [shard.first_ms for shard in shards if shard.first_ms is not None]
        newest = [shard.last_ms for shard in shards if shard.last_ms is not None]
        self.sample = replace(
            self.sample,
            away=None,
            away_shards=away,
            away_shards_since=(self.sample.away_shards_since or now) if away else None,
            read_at=now,
            server_id=next((stats.server_id for stats in shards if not stats.shard.number), self.sample.server_id),
            stored=sum(shard.added for shard in shards),
            entries=sum(shard.length for shard in shards),
            oldest_at=min(oldest) / 1000 if oldest else None,
            newest_at=max(newest) / 1000 if newest else None,
            invalid=sum(shard.invalid for shard in shards),
            quarantined=sum(shard.quarantined for shard in shards),
        )
        parts: dict[str, list[tuple[ShardStats, GroupStats]]] = {}
        for shard in shards:
            for group in shard.groups:
                if group.name in parts or len(parts) < MOST_GROUPS:
                    parts.setdefault(group.name, []).append((shard, group))
        self.groups = {name: self._group(name, parts[name]) for name in sorted(parts)}

    def _group(self, name: str, parts: Sequence[tuple[ShardStats, GroupStats]]) -> GroupSample:
        groups = [group for _, group in parts]
        oldest = [age for age in (shard.oldest_seconds(group) for shard, group in parts) if age is not None]
        paused = next((group for group in groups if group.paused), None)
        is_registered = any(group.registered for group in groups)
        return GroupSample(
            name=name,
            registered=is_registered,
            unread=_sum(group.unread for group in groups),
            pending=sum(group.pending for group in groups),
            retries=sum(group.retries for group in groups),
            replays=sum(group.replays for group in groups),
            dead=sum(group.dead for group in groups),
            oldest_seconds=max(oldest, default=None),
            paused=_pause(paused) if paused else None,
            settled=_sum(None if group.read is None else group.read - group.pending for group in groups),
            alive=self._liveness.count(name, groups, self._clock()) if is_registered else None,
            failures=self._errors.get(name, ()),
        )

    async def _read_slowly(self, shards: Sequence[ShardStats]) -> None:
        nodes = await list_nodes(self._server, [stats.shard.stream for stats in shards])
        memories = {name: await self._ask("info", node.info, "memory") or {} for name, node in nodes.items()}
        fullest = max(memories, key=lambda name: _memory_share(memories[name]), default="")
        memory = memories.get(fullest, {})
        settings = [await self._ask("config", node.config_get, *REQUIRED, POLICY) for node in nodes.values()]
        usage = [
            await self._ask("memory", self._server.memory_usage, stats.shard.stream, samples=SAMPLES)
            if stats.length
            else 0
            for stats in shards
        ]
        short = tuple(
            dict.fromkeys(phrase for each in settings if each is not None for phrase in find_shortcomings(each))
        )
        errors: dict[str, list[HandlerError]] = {}
        running = 0
        for stats in shards:
            for group in [group for group in stats.groups if group.registered][:MOST_GROUPS]:
                replays, failures = await self._read_failures(stats.shard, group.name)
                running += replays
                errors.setdefault(group.name, []).extend(failures)
        self._errors = {name: _newest(failures) for name, failures in errors.items()}
        self.sample = replace(
            self.sample,
            bytes=_sum(usage),
            memory_node=fullest or None,
            memory_used=_used_memory(memory),
            memory_max=memory.get("maxmemory") or None,
            durable=None if None in settings else not short,
            shortcomings=short,
            running_replays=running,
        )

    async def _ask(self, name: str, command: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Return the reply, or None if this user may not ask: more requests would only fill the server's log."""
        if self._clock() < self._denied_until.get(name, 0.0):
            return None
        try:
            return await command(*arguments, **options)
        except ResponseError as exc:
            if not is_denied(exc):
                raise
            self._denied_until[name] = self._clock() + DENIED_SECONDS
            return None

    async def _read_failures(self, shard: Shard, group: str) -> tuple[int, list[HandlerError]]:
        keys = [shard.dead(group), shard.delayed(group), shard.replays(group)]
        running, failures = await self._failures(keys=keys, args=[FAILURES])
        return running, [_error(failure) for failure in failures if read_ms(failure[0]) is not None]


class Liveness:
    """Which consumers live: those whose heartbeat has advanced within the time after which a worker counts as late."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._beats: dict[tuple[str, str], tuple[str, float | None]] = {}
        """(group, consumer) → counter, and when it changed; None if it has not changed since it was seen first."""

    def count(self, name: str, groups: Sequence[GroupStats], now: float) -> int | None:
        """Return the number of live consumers; None while the group has not been watched for WATCH_SECONDS."""
        started = self._started.setdefault(name, now)
        seen = {(name, consumer): beat for group in groups for consumer, beat in group.beats.items()}
        is_first = started == now
        for key in [key for key in self._beats if key[0] == name and key not in seen]:
            del self._beats[key]
        for key, beat in seen.items():
            before = self._beats.get(key)
            if before is None:
                self._beats[key] = beat, None if is_first else now
            elif before[0] != beat:
                self._beats[key] = beat, now
        if now - started < WATCH_SECONDS:
            return None
        changes = [changed for key, (_, changed) in self._beats.items() if key[0] == name]
        return sum(changed is not None and now - changed < TIMING.late for changed in changes)


def _memory_share(info: Mapping[str, Any]) -> float:
    limit = info.get("maxmemory", 0)
    return (_used_memory(info) or 0) / limit if limit else 0.0


def _used_memory(info: Mapping[str, Any]) -> int | None:
    used = info.get("used_memory")
    return None if used is None else used - info.get("mem_not_counted_for_evict", 0)


def _pause(group: GroupStats) -> PauseSample:
    return PauseSample(group.paused or "", None if group.paused_ms is None else group.paused_ms / 1000)


def _sum(numbers: Any) -> int | None:
    values = list(numbers)
    return None if None in values else sum(values)


def _error(failure: Sequence[bytes]) -> HandlerError:
    at, origin, error, attempt, due = (part.decode(errors="replace") for part in failure)
    return HandlerError(
        at=int(at) / 1000,
        entry=origin,
        error=mask_numbers(error),
        attempt=int(attempt) if attempt.isdecimal() else 0,
        is_dead=not due,
        due=read_due_ms(due) / 1000 if due else None,
    )


def _newest(failures: list[HandlerError]) -> tuple[HandlerError, ...]:
    return tuple(sorted(failures, key=lambda failure: failure.at, reverse=True)[:FAILURES])
