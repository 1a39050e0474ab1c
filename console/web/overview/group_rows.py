"""The rows of the groups: state, numbers and trend of each, and the newest failures of all."""

from collections.abc import Sequence

from console.web.route import Json
from console.web.sampling.findings import Series
from console.web.sampling.rates import GroupRates, Rates
from console.web.sampling.snapshot import GroupSample, Snapshot

BEHIND_SECONDS = 60.0
TREND_POINTS = 30
FAILURES = 5


def describe_groups(latest: Snapshot, rates: Rates, minute: Rates, recent: Series) -> list[Json]:
    """Return a row for each group by name. ``recent`` is the series of the last minutes, for the trend."""
    return [
        _describe_group(
            group, rates.groups.get(name), minute.groups.get(name), recent.values.get(f"outstanding:{name}")
        )
        | describe_state(group, is_waiting=name in latest.waiting)
        for name, group in latest.groups.items()
        if group.registered
    ]


def _describe_group(
    group: GroupSample, rates: GroupRates | None, minute: GroupRates | None, trend: Sequence[float | None] | None
) -> Json:
    settled = rates.settled if rates else None
    return {
        "name": group.name,
        "workers": group.alive,
        "per_second": settled if settled is not None or rates is None else rates.handled,
        "p99_seconds": minute.handle.quantile(0.99) if minute else None,
        "in_flight": group.pending,
        "outstanding": group.outstanding,
        "trend": thin_out(trend or ()),
        "oldest_seconds": group.oldest_seconds,
        "failed_share": minute.failed_share if minute else None,
        "retries": group.retries,
        "replays": group.replays,
        "dead": group.dead,
        "paused": {"reason": group.paused.reason, "since": group.paused.since} if group.paused else None,
        "last_error": group.failures[0].error if group.failures else None,
    }


def describe_state(group: GroupSample, *, is_waiting: bool) -> Json:
    """Return tone, icon and word of a group's state."""
    tone, shape, state = find_state(group, is_waiting=is_waiting)
    return {"tone": tone, "shape": shape, "state": state}


def find_state(group: GroupSample, *, is_waiting: bool) -> tuple[str, str, str]:
    """Return tone, icon and word of a group's state. ``is_waiting``: its target is away."""
    if group.paused is not None:
        return "warn", "pause", "Paused"
    if group.alive == 0:
        return "bad", "bad", "No worker"
    if is_waiting:
        return "warn", "wait", "Target away"
    if (group.oldest_seconds or 0.0) > BEHIND_SECONDS:
        return "warn", "warn", "Behind"
    if group.alive is None:
        return "off", "off", "Unknown"
    return "ok", "ok", "Healthy"


def thin_out(values: Sequence[float | None]) -> list[float | None]:
    """Return at most TREND_POINTS values: the greatest of each part; None for a part without any."""
    size = max(-(-len(values) // TREND_POINTS), 1)
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    return [max((value for value in part if value is not None), default=None) for part in parts]


def list_failures(latest: Snapshot) -> list[Json]:
    """Return the newest failures of all groups, the newest first."""
    failures = [(failure, group.name) for group in latest.groups.values() for failure in group.failures]
    failures.sort(key=lambda pair: pair[0].at, reverse=True)
    return [
        {
            "key": f"{failure.at:.3f}/{failure.entry}",
            "at": failure.at,
            "group": name,
            "entry": failure.entry,
            "error": failure.error,
            "attempt": failure.attempt,
            "is_dead": failure.is_dead,
            "due": failure.due,
        }
        for failure, name in failures[:FAILURES]
    ]
