"""Rates and increases: differences of the totals of two moments. No I/O."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from console.web.metrics.distribution import Distribution
from console.web.sampling.snapshot import Snapshot, Totals

KEPT_SECONDS = 90.0
STEP_SECONDS = 10.0
HOUR_AND_QUARTER = 4500.0 + STEP_SECONDS

Counts = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class GroupRates:
    """Events of one group, per second."""

    settled: float | None
    """Entries; None if Redis did not answer in the span, or does not report it."""
    handled: float | None
    """Events; None if no worker was scraped."""
    failed: float | None
    """Events whose attempt failed."""
    handle: Distribution
    """Handler calls of the span."""

    @property
    def failed_share(self) -> float | None:
        """Failed attempts as a share of all; None without attempts."""
        attempts = (self.handled or 0.0) + (self.failed or 0.0)
        return (self.failed or 0.0) / attempts if attempts else None


@dataclass(frozen=True, slots=True)
class Rates:
    """Events within a span of time, per second. None is unknown, because the part did not answer."""

    seconds: float
    """The length of the span that was measured."""
    stored: float | None
    """Entries that Redis stored."""
    answers: Mapping[str, float] | None
    """Webhooks by answer."""
    answer: Distribution
    """Answers of the span by duration."""
    verified: Mapping[str, float]
    """Webhooks with a valid signature, by account."""
    refused: Mapping[str, float]
    handled: float | None
    """Events of all groups."""
    groups: Mapping[str, GroupRates]

    @property
    def webhooks(self) -> float | None:
        """Webhooks that were answered, without empty requests."""
        if self.answers is None:
            return None
        return sum(rate for answer, rate in self.answers.items() if answer != "check")


class RecentMoments:
    """The snapshots of the last KEPT_SECONDS."""

    def __init__(self) -> None:
        self._snapshots: deque[Snapshot] = deque()

    def add(self, snapshot: Snapshot) -> None:
        """Add a snapshot, and drop old ones."""
        self._snapshots.append(snapshot)
        while self._snapshots[0].taken_at < snapshot.taken_at - KEPT_SECONDS:
            self._snapshots.popleft()

    def rates(self, seconds: float) -> Rates:
        """Return the rates over at least this span, or over all moments if they are fewer."""
        newest = self._snapshots[-1]
        redis = _span([moment.totals.redis_at for moment in self._snapshots], newest, seconds)
        scraped = _span([moment.totals.at for moment in self._snapshots], newest, seconds)
        moments = list(self._snapshots)
        return make_rates(
            newest,
            None if redis is None else moments[redis].totals,
            None if scraped is None else moments[scraped].totals,
        )


def _span(times: list[float], newest: Snapshot, seconds: float) -> int | None:
    """Return the index of the moment to compare with the newest one; None without one, or if nothing is new."""
    last = times[-1]
    if not last or newest.taken_at - last > seconds:
        return None
    earlier = [index for index, at in enumerate(times) if 0 < at < last]
    enough = [index for index in earlier if times[index] <= last - seconds]
    return enough[-1] if enough else (earlier[0] if earlier else None)


def make_rates(newest: Snapshot, redis: Totals | None, scraped: Totals | None) -> Rates:
    """Return the rates from ``redis`` (for numbers of Redis) and ``scraped`` (of processes) to the newest moment."""
    now = newest.totals
    stored: Mapping[str, float] = {}
    settled: Mapping[str, float] = {}
    counts: dict[str, Mapping[str, float]] = {}
    if redis is not None:
        seconds = now.redis_at - redis.redis_at
        stored = _per_second(now.redis_counts, redis.redis_counts, "stored", seconds)
        settled = _per_second(now.redis_counts, redis.redis_counts, "settled", seconds)
    if scraped is not None:
        kinds = {kind for kind, _ in now.counts}
        counts = {kind: _per_second(now.counts, scraped.counts, kind, now.at - scraped.at) for kind in kinds}
    has_ingest = scraped is not None and any(process.is_up for process in newest.ingest)
    has_worker = scraped is not None and any(process.is_up for process in newest.workers)
    handled = counts.get("handled", {})
    return Rates(
        seconds=max(now.redis_at - redis.redis_at if redis else 0.0, now.at - scraped.at if scraped else 0.0),
        stored=stored.get("") if redis is not None else None,
        answers=counts.get("answers", {}) if has_ingest else None,
        answer=subtract(now, scraped, ("answer", "")),
        verified=counts.get("verified", {}),
        refused=counts.get("refused", {}),
        handled=sum(handled.values()) if has_worker else None,
        groups={
            name: GroupRates(
                settled=settled.get(name),
                handled=handled.get(name, 0.0) if has_worker else None,
                failed=counts.get("failed", {}).get(name, 0.0) if has_worker else None,
                handle=subtract(now, scraped, ("handle", name)),
            )
            for name in newest.groups
        },
    )


def _per_second(after: Counts, before: Counts, kind: str, seconds: float) -> dict[str, float]:
    """Return the rates of one kind by label. A counter that is new started at 0."""
    return {
        label: (value - before.get((name, label), 0.0)) / seconds
        for (name, label), value in after.items()
        if name == kind and seconds > 0
    }


def subtract(now: Totals, before: Totals | None, key: tuple[str, str]) -> Distribution:
    """Return the durations counted between two totals; empty without the earlier one."""
    after = now.distributions.get(key)
    if after is None or before is None:
        return Distribution()
    base = before.distributions.get(key)
    if base is None or base.bounds != after.bounds:
        return after
    counts = tuple(new - old for new, old in zip(after.counts, base.counts, strict=True))
    return Distribution(after.bounds, counts, after.total_seconds - base.total_seconds)


class RecentHour:
    """Totals and gauges of the last hour and a quarter, every STEP_SECONDS, for the conditions of alerts.

    Every method uses what it has if the console has not run for as long as asked.
    """

    def __init__(self) -> None:
        self._moments: deque[_Sparse] = deque()
        self._newest: Snapshot | None = None

    @property
    def newest(self) -> Snapshot:
        """The newest snapshot. There is one after the first call of `add`."""
        assert self._newest is not None  # noqa: S101 - see above
        return self._newest

    def add(self, snapshot: Snapshot) -> None:
        """Add a snapshot, unless less than STEP_SECONDS have passed, and drop old ones."""
        self._newest = snapshot
        if self._moments and 0 <= snapshot.taken_at - self._moments[-1].at < STEP_SECONDS:
            return
        dead = {name: group.dead for name, group in snapshot.groups.items() if group.registered}
        spools = {process.address: process.spool_bytes for process in snapshot.ingest if process.is_up}
        self._moments.append(_Sparse(snapshot.taken_at, snapshot.totals.counts, dead, spools))
        while self._moments[0].at < snapshot.taken_at - HOUR_AND_QUARTER:
            self._moments.popleft()

    def increase(self, kind: str, seconds: float, ago: float = 0.0) -> Mapping[str, float]:
        """Return the increases of the counters of a kind within these seconds, which ended this long ago."""
        until = self.newest.totals.counts if not ago else self._at(ago).counts
        since = self._at(ago + seconds).counts
        return {label: value - since.get((name, label), 0.0) for (name, label), value in until.items() if name == kind}

    def count_new_dead_letters(self, group: str, seconds: float) -> int:
        """Return how many dead letters the group has more than before these seconds; at most 0 if it has fewer."""
        now = self.newest.groups[group].dead
        return now - self._at(seconds).dead.get(group, now)

    def predict_spool(self, address: str, seconds: float, ahead: float) -> float:
        """Predict the bytes of a spool by the straight line that fits its values of the last seconds best."""
        now = self.newest.taken_at
        values = [(moment.at - now, moment.spools[address]) for moment in self._moments if address in moment.spools]
        values = [(at, size) for at, size in values if at >= -seconds]
        mean_at = sum(at for at, _ in values) / max(len(values), 1)
        mean = sum(size for _, size in values) / max(len(values), 1)
        spread = sum((at - mean_at) ** 2 for at, _ in values)
        slope = sum((at - mean_at) * (size - mean) for at, size in values) / spread if spread else 0.0
        return mean + slope * (ahead - mean_at)

    def _at(self, ago: float) -> "_Sparse":
        """Return the last moment that is at least this old, or else the first one."""
        until = self.newest.taken_at - ago
        return next((moment for moment in reversed(self._moments) if moment.at <= until), self._moments[0])


@dataclass(frozen=True, slots=True)
class _Sparse:
    """The numbers of an earlier moment that alerts compare with."""

    at: float
    counts: Counts
    dead: Mapping[str, int]
    spools: Mapping[str, int]
