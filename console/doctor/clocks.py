"""Judges the clock of a server by this machine's. No I/O."""

from collections.abc import Iterator

from console.doctor.finding import Finding, make_finding

DRIFT_SECONDS = 2.0
SKEW_SECONDS = 30.0


def judge_clock(server: str, server_time: float, before: float, after: float) -> Iterator[Finding]:
    """Yield a finding if the clocks differ. The server read its time between ``before`` and ``after`` of this clock."""
    if server_time < before:
        seconds, direction = before - server_time, "behind"
    else:
        seconds, direction = max(server_time - after, 0.0), "ahead of"
    if seconds > DRIFT_SECONDS:
        name = "clock.skew" if seconds > SKEW_SECONDS else "clock.drift"
        yield make_finding(name, server=server, seconds=round(seconds, 1), direction=direction)
