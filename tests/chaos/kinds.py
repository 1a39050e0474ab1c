"""All kinds of faults by name."""

import errno
import random
import signal
from collections.abc import Callable, Mapping
from functools import partial

from tests.chaos.faults import Fault, Kind
from tests.chaos.network_faults import Switched, Torn
from tests.chaos.process_faults import ClockShifted, Ended, Fsync, Harried, Stopped, Unread, Victim
from tests.chaos.server_faults import (
    DatabaseAwayAtStart,
    DatabaseKilled,
    DatabaseStopped,
    GroupDestroyed,
    RedisFull,
    SpoolFull,
    StreamFull,
)
from tests.chaos.site import Cluster

HOUR = 3600
ROLES = ("ingest", "worker", "redis")
SHIM, DISK, POSTGRESQL = "a C compiler", "the right to mount a disk", "PostgreSQL"
PGBOUNCER = "PgBouncer"

Make = Callable[[random.Random], Fault]


def _ended(role: str, number: signal.Signals) -> Make:
    return lambda rng: Ended(Victim.chosen(role, rng), number)


def _harried(role: str) -> Make:
    return lambda rng: Harried(Victim.chosen(role, rng), random.Random(rng.random()))


def _stopped(role: str) -> Make:
    return lambda rng: Stopped(Victim.chosen(role, rng))


def _network(what: str) -> Make:
    return lambda rng: Switched.made(what, rng)


def _unread(*, is_gone: bool) -> Make:
    return lambda rng: Unread(Victim.chosen("ingest", rng), is_gone)


def _switched_ingest(what: str, _rng: random.Random) -> Fault:
    return Switched(what, ("ingest",))


def _clock(rng: random.Random) -> Fault:
    seconds = rng.choice((-1, 1)) * rng.randint(HOUR, 2 * HOUR)
    return ClockShifted(Victim.chosen(rng.choice(ROLES), rng), seconds)


def _slow_fsync(role: str) -> Make:
    return lambda rng: Fsync(Victim.chosen(role, rng), delay_ms=rng.randint(200, 3000))


def _failing_fsync(role: str) -> Make:
    return lambda rng: Fsync(Victim.chosen(role, rng), error=rng.choice((errno.EIO, errno.ENOSPC)))


KINDS: Mapping[str, Kind] = {
    **{f"kill-{role}": Kind(_ended(role, signal.SIGKILL), (0.1, 5.0)) for role in ROLES},
    **{f"harry-{role}": Kind(_harried(role), (3.0, 8.0)) for role in ROLES},
    **{f"stop-{role}": Kind(_stopped(role), (1.0, 20.0)) for role in ROLES},
    **{f"restart-{role}": Kind(_ended(role, signal.SIGTERM), (0.1, 3.0)) for role in ROLES},
    **{name: Kind(_network(name), (0.5, 8.0)) for name in ("freeze", "delay", "cut", "swallow")},
    "tear": Kind(Torn.made, (1.0, 8.0)),
    "redis-full": Kind(lambda _: RedisFull(), (0.5, 8.0)),
    "stream-full": Kind(lambda _: StreamFull(), (6.0, 15.0)),
    "log-gone": Kind(_unread(is_gone=True), (1.0, 8.0), with_redis_away=True),
    "log-stalled": Kind(_unread(is_gone=False), (1.0, 8.0), with_redis_away=True),
    "destroy-group": Kind(GroupDestroyed.made, (0.1, 0.5)),
    "kill-postgresql": Kind(lambda _: DatabaseKilled(), (0.1, 5.0), POSTGRESQL),
    "stop-postgresql": Kind(lambda _: DatabaseStopped(), (1.0, 15.0), POSTGRESQL),
    "start-without-postgresql": Kind(lambda _: DatabaseAwayAtStart(), (3.0, 15.0), POSTGRESQL),
    "kill-pgbouncer": Kind(_ended("pgbouncer", signal.SIGKILL), (0.1, 5.0), PGBOUNCER),
    "spool-full": Kind(lambda _: SpoolFull(), (1.0, 6.0), DISK, with_redis_away=True),
    "clock": Kind(_clock, (1.0, 6.0), SHIM),
    "slow-fsync-redis": Kind(_slow_fsync("redis"), (1.0, 6.0), SHIM),
    "failing-fsync-redis": Kind(_failing_fsync("redis"), (0.5, 4.0), SHIM),
    "slow-fsync-spool": Kind(_slow_fsync("ingest"), (1.0, 6.0), SHIM, with_redis_away=True),
    "failing-fsync-spool": Kind(_failing_fsync("ingest"), (1.0, 6.0), SHIM, with_redis_away=True),
}

AWAY: Mapping[str, Kind] = {
    **{name: Kind(partial(_switched_ingest, name), (0.5, 8.0)) for name in ("freeze", "cut")},
    **{name: KINDS[name] for name in ("stop-redis", "redis-full")},
}
"""While one of these lasts, ingest cannot append."""


def possible(site: Cluster) -> Mapping[str, Kind]:
    """Return those that this site has what is needed for."""
    has = {SHIM: site.redis.orders is not None, DISK: site.has_disk, POSTGRESQL: site.postgresql is not None}
    has[PGBOUNCER] = site.pgbouncer is not None
    return {name: kind for name, kind in KINDS.items() if kind.needs is None or has[kind.needs]}
