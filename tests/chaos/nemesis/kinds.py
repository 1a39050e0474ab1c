"""All kinds of faults by name."""

import errno
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from tests.chaos.cluster.cluster import Cluster
from tests.chaos.nemesis.network import ConnectionsTorn, ProxyFault
from tests.chaos.nemesis.processes import (
    ChildEnded,
    ChildFrozen,
    ClockShifted,
    FsyncFault,
    LogUnread,
    ProcessEnded,
    ProcessFrozen,
    ProcessHarried,
    Victim,
)
from tests.chaos.nemesis.schedule import Fault, Kind
from tests.chaos.nemesis.servers import (
    DatabaseAwayAtStart,
    DatabaseKilled,
    DatabaseStopped,
    GroupDestroyed,
    RedisFull,
    SpoolFull,
    StreamFull,
)

HOUR = 3600
ROLES = ("ingest", "worker", "redis")
SHIM, DISK, POSTGRESQL = "a C compiler", "the right to mount a disk", "PostgreSQL"
PGBOUNCER, PROCESSES = "PgBouncer", "--processes 2 or more"

Make = Callable[[random.Random], Fault]


def _process_ended(role: str, number: signal.Signals) -> Make:
    return lambda rng: ProcessEnded(Victim.choose(role, rng), number)


def _process_harried(role: str) -> Make:
    return lambda rng: ProcessHarried(Victim.choose(role, rng), random.Random(rng.random()))


def _child_ended(rng: random.Random) -> Fault:
    return ChildEnded(Victim.choose(rng.choice(ROLES[:2]), rng), random.Random(rng.random()))


def _child_frozen(rng: random.Random) -> Fault:
    return ChildFrozen(Victim.choose(rng.choice(ROLES[:2]), rng), random.Random(rng.random()))


def _process_frozen(role: str) -> Make:
    return lambda rng: ProcessFrozen(Victim.choose(role, rng))


def _network(what: str) -> Make:
    return lambda rng: ProxyFault.from_rng(what, rng)


def _unread(*, is_gone: bool) -> Make:
    return lambda rng: LogUnread(Victim.choose("ingest", rng), is_gone)


def _ingest_cut_off(what: str, _rng: random.Random) -> Fault:
    return ProxyFault(what, ("ingest",))


def _clock(rng: random.Random) -> Fault:
    seconds = rng.choice((-1, 1)) * rng.randint(HOUR, 2 * HOUR)
    return ClockShifted(Victim.choose(rng.choice(ROLES), rng), seconds)


def _slow_fsync(role: str) -> Make:
    return lambda rng: FsyncFault(Victim.choose(role, rng), delay_ms=rng.randint(200, 3000))


def _fail_fsync(role: str) -> Make:
    return lambda rng: FsyncFault(Victim.choose(role, rng), error=rng.choice((errno.EIO, errno.ENOSPC)))


KINDS: Mapping[str, Kind] = {
    **{f"kill-{role}": Kind(_process_ended(role, signal.SIGKILL), (0.1, 5.0)) for role in ROLES},
    **{f"harry-{role}": Kind(_process_harried(role), (3.0, 8.0)) for role in ROLES},
    **{f"stop-{role}": Kind(_process_frozen(role), (1.0, 20.0)) for role in ROLES},
    **{f"restart-{role}": Kind(_process_ended(role, signal.SIGTERM), (0.1, 3.0)) for role in ROLES},
    "kill-child": Kind(_child_ended, (0.1, 1.0), PROCESSES),
    "stop-child": Kind(_child_frozen, (5.0, 40.0), PROCESSES),
    **{name: Kind(_network(name), (0.5, 8.0)) for name in ("freeze", "delay", "cut", "swallow")},
    "tear": Kind(ConnectionsTorn.from_rng, (1.0, 8.0)),
    "redis-full": Kind(lambda _: RedisFull(), (0.5, 8.0)),
    "stream-full": Kind(lambda _: StreamFull(), (6.0, 15.0)),
    "log-gone": Kind(_unread(is_gone=True), (1.0, 8.0), with_redis_away=True),
    "log-stalled": Kind(_unread(is_gone=False), (1.0, 8.0), with_redis_away=True),
    "destroy-group": Kind(GroupDestroyed.from_rng, (0.1, 0.5)),
    "kill-postgresql": Kind(lambda _: DatabaseKilled(), (0.1, 5.0), POSTGRESQL),
    "stop-postgresql": Kind(lambda _: DatabaseStopped(), (1.0, 15.0), POSTGRESQL),
    "start-without-postgresql": Kind(lambda _: DatabaseAwayAtStart(), (3.0, 15.0), POSTGRESQL),
    "kill-pgbouncer": Kind(_process_ended("pgbouncer", signal.SIGKILL), (0.1, 5.0), PGBOUNCER),
    "spool-full": Kind(lambda _: SpoolFull(), (1.0, 6.0), DISK, with_redis_away=True),
    "clock": Kind(_clock, (1.0, 6.0), SHIM),
    "slow-fsync-redis": Kind(_slow_fsync("redis"), (1.0, 6.0), SHIM),
    "failing-fsync-redis": Kind(_fail_fsync("redis"), (0.5, 4.0), SHIM),
    "slow-fsync-spool": Kind(_slow_fsync("ingest"), (1.0, 6.0), SHIM, with_redis_away=True),
    "failing-fsync-spool": Kind(_fail_fsync("ingest"), (1.0, 6.0), SHIM, with_redis_away=True),
}

AWAY: Mapping[str, Kind] = {
    **{name: Kind(partial(_ingest_cut_off, name), (0.5, 8.0)) for name in ("freeze", "cut")},
    **{name: KINDS[name] for name in ("stop-redis", "redis-full")},
}
"""During each of these faults ingest cannot append."""


def need(what: str, names: Sequence[str]) -> bool:
    """Whether one of these faults, or of all if there are no names, needs this."""
    return any(KINDS[name].needs == what for name in names or KINDS)


def possible(cluster: Cluster) -> Mapping[str, Kind]:
    """Return the kinds that are possible on this cluster."""
    has = {SHIM: cluster.redis.shim is not None, DISK: cluster.has_disk, POSTGRESQL: cluster.postgresql is not None}
    has |= {PGBOUNCER: cluster.pgbouncer is not None, PROCESSES: cluster.has_children}
    return {name: kind for name, kind in KINDS.items() if kind.needs is None or has[kind.needs]}
