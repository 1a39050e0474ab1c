"""Which alerts would fire now: the rules of `alert_rules`, evaluated on the console's own samples. No I/O."""

from collections.abc import Sequence

from console.web.sampling.alert_rules import RULES, AlertRule
from console.web.sampling.findings import FiringAlert, Severity
from console.web.sampling.rates import RecentHour
from console.web.sampling.snapshot import Snapshot


class Alerts:
    """The state of all alerts. As in Prometheus, a condition must hold for some time before its alert fires."""

    def __init__(self) -> None:
        self._hour = RecentHour()
        self._since: dict[tuple[str, str], float] = {}
        """(rule, subject) → since when its condition holds."""
        self.firing: Sequence[FiringAlert] = ()
        """The alerts that fire, pages first, then the oldest first."""

    def add(self, snapshot: Snapshot) -> None:
        """Evaluate all rules on a new snapshot."""
        now = snapshot.taken_at
        self._hour.add(snapshot)
        holding = {(rule.name, subject): rule for rule in RULES for subject in rule.find(self._hour)}
        self._since = {key: self._since.get(key, now) for key in holding}
        firing = [
            _fire(rule, subject, self._since[name, subject])
            for (name, subject), rule in holding.items()
            if now - self._since[name, subject] >= rule.hold_seconds
        ]
        self.firing = sorted(firing, key=lambda alert: (alert.severity is not Severity.PAGE, alert.since, alert.name))


def _fire(rule: AlertRule, subject: str, since: float) -> FiringAlert:
    return FiringAlert(
        name=rule.name,
        severity=rule.severity,
        subject=subject,
        summary=rule.summary.replace("{subject}", subject),
        risk=rule.risk,
        next_step=rule.next_step,
        runbook=f"/runbooks/{rule.runbook}",
        since=since,
    )
