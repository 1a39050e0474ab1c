"""Each alert fires when it must and not otherwise, in Prometheus and in the console alike."""

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from console.web.sampling.alert_rules import RULES
from console.web.sampling.findings import FiringAlert, Severity
from deploy.docs import reference
from deploy.docs.alerts_page import CONSOLE, annotate
from tests.support.samples.metric_series import (
    HEALTHY,
    INGEST,
    MINUTES,
    WORKER,
    Metrics,
    always,
    rising,
    to_promtool,
    watch,
)

pytestmark = pytest.mark.one_process("alerts")  # one process, which evaluates each case once

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: apt install prometheus")

ADDRESS = "https://console.example"
OTHER = 'instance="ingest:9465"'
REFUSED = f'ackstream_signatures_refused_total{{result="wrong: signature",{INGEST}}}'
ACCOUNT = f'ackstream_webhooks_verified_total{{account="abc",{INGEST}}}'
MEMORY = f"ackstream_redis_memory_ratio{{{INGEST}}}"
MISSING = f"ackstream_missing_entries_total{{{WORKER}}}"
SPOOL = f"ackstream_spool_bytes{{{INGEST}}}"
ENTRIES = f"ackstream_spool_entries{{{INGEST}}}"
TRIM = f'ackstream_trim_failures_total{{error="archive",{WORKER}}}'
DEAD = 'ackstream_dead_letters{group="g"}'
DEAD_COUNT = f'ackstream_dead_letters_total{{group="g",reason="attempts",{WORKER}}}'
PAUSED = f'ackstream_group_paused{{group="g",why="failing",{WORKER}}}'

FIRING: Mapping[str, tuple[str, Metrics]] = {
    "a worker is down": ("AckstreamDown worker:9464", {f'up{{job="ackstream-worker",{WORKER}}}': always(0)}),
    "one of two ingest processes is down": (
        "AckstreamDown ingest:9465",
        {
            f'up{{job="ackstream-ingest",{OTHER}}}': lambda minute: minute < 80,
            f'ackstream_process{{kind="ingest",{OTHER}}}': lambda minute: 1.0 if minute < 80 else None,
        },
    ),
    "errors": (
        "AckstreamServerErrors",
        {f'ackstream_webhooks_total{{answer="503",{INGEST}}}': rising(12, start=60)},
    ),
    "spool in use": ("AckstreamSpoolInUse ingest:9464", {ENTRIES: rising(1, start=87)}),
    "spool full within the hour": ("AckstreamSpoolFull ingest:9464", {SPOOL: rising(20e6, start=70, first=1e6)}),
    "spool full": ("AckstreamSpoolFull ingest:9464", {SPOOL: always(0.95e9)}),
    "not durable": ("AckstreamNotDurable", {f"ackstream_redis_durable{{{INGEST}}}": lambda minute: minute < 84}),
    "memory": ("AckstreamRedisMemory", {MEMORY: always(0.86)}),
    "oldest": ("AckstreamOldest g", {'ackstream_oldest_seconds{group="g"}': always(61)}),
    "nobody reads": ("AckstreamNobodyReads g", {'ackstream_live_consumers{group="g"}': always(0)}),
    "paused": ("AckstreamGroupPaused g", {PAUSED: always(1)}),
    "at the limit of its backlog": (
        "AckstreamGroupPaused g",
        {f'ackstream_group_paused{{group="g",why="backlog",{WORKER}}}': always(1)},
    ),
    "more dead letters": ("AckstreamDeadLettersRise g", {DEAD: rising(1, start=84, first=3)}),
    "dead letters that are replayed": (
        "AckstreamDeadLettersRise g",
        {DEAD: rising(-1, first=200), DEAD_COUNT: rising(1, start=80, first=100)},
    ),
    "wrong signatures": ("AckstreamWrongSignatures wrong: signature", {REFUSED: rising(5, start=80, first=1)}),
    "missing entries": (
        "AckstreamMissingEntries",
        {f"ackstream_missing_entries_total{{{WORKER}}}": rising(1, start=60)},
    ),
    "trimming fails": ("AckstreamTrimmingStalled", {TRIM: rising(6, start=40)}),
    "retention is blocked": (
        "AckstreamTrimmingStalled",
        {f'ackstream_retention_blocked_entries{{group="g",{WORKER}}}': always(5)},
    ),
    "an account is silent": ("AckstreamAccountSilent abc", {ACCOUNT: lambda minute: 60.0 * min(minute, 70)}),
    "an account is silent after a restart": (
        "AckstreamAccountSilent abc",
        {ACCOUNT: lambda minute: 60.0 * minute if minute <= 70 else None},
    ),
}
"""Case → the alert that fires, with its subject, and the series that differ from healthy ones."""

QUIET: Mapping[str, Metrics] = {
    "healthy": {},
    "a process is back": {f'up{{job="ackstream-worker",{WORKER}}}': lambda minute: minute != 89},
    "few errors": {f'ackstream_webhooks_total{{answer="503",{INGEST}}}': rising(5, start=60)},
    "errors of clients": {f'ackstream_webhooks_total{{answer="404",{INGEST}}}': rising(100, start=60)},
    "a short outage": {ENTRIES: lambda minute: 50.0 if minute == 89 else 0.0},
    "a spool that grows slowly": {SPOOL: rising(1e6, start=60), ENTRIES: always(0)},
    "a spool that is drained": {SPOOL: lambda minute: 0.8e9 - 5e6 * minute},
    "memory below its limit": {MEMORY: always(0.84)},
    "memory for a short time": {
        f"ackstream_redis_memory_ratio{{{INGEST}}}": lambda minute: 0.9 if minute > 86 else 0.4
    },
    "not durable for a short time": {f"ackstream_redis_durable{{{INGEST}}}": lambda minute: minute < 87},
    "young statuses": {'ackstream_oldest_seconds{group="g"}': always(59)},
    "an idle group without a worker": {
        'ackstream_live_consumers{group="g"}': always(0),
        'ackstream_outstanding{group="g"}': always(0),
    },
    "an unknown lag": {
        'ackstream_live_consumers{group="g"}': always(0),
        'ackstream_outstanding{group="g"}': lambda _: None,
    },
    "a pause that has ended": {PAUSED: lambda minute: minute < 85},
    "old dead letters": {DEAD: always(500), DEAD_COUNT: always(500)},
    "fewer dead letters": {DEAD: rising(-2, first=500), DEAD_COUNT: always(500)},
    "few wrong signatures": {REFUSED: lambda minute: 1.0 + (minute > 84) * 8},
    "unsigned webhooks": {f'ackstream_signatures_refused_total{{result="unsigned",{INGEST}}}': rising(50)},
    "entries that were missing before": {
        f"ackstream_missing_entries_total{{{WORKER}}}": lambda minute: 7.0 * (minute > 9)
    },
    "trimming failed once": {TRIM: lambda minute: 2.0 * (minute > 50)},
    "retention is blocked for a short time": {
        f'ackstream_retention_blocked_entries{{group="g",{WORKER}}}': lambda minute: 5.0 * (minute > 80)
    },
    "an account that seldom sends": {ACCOUNT: lambda minute: 10.0 + (minute > 40) * 20},
    "an account that sends less": {ACCOUNT: lambda minute: 60.0 * min(minute, 70) + max(minute - 70, 0)},
}
"""Case → the series that differ from healthy ones."""

CASES: Mapping[str, Metrics] = {name: metrics for name, (_, metrics) in FIRING.items()} | dict(QUIET)


@functools.cache
def watch_case(case: str) -> Sequence[FiringAlert]:
    """Return the alerts that the console fires in a case."""
    return watch({**HEALTHY, **CASES[case]}).firing


def names(alerts: Sequence[FiringAlert]) -> list[str]:
    """Return the alerts with their subjects."""
    return sorted(f"{alert.name} {alert.subject}".strip() for alert in alerts)


@pytest.mark.parametrize("case", FIRING)
def test_an_alert_fires(case: str) -> None:
    """The console fires exactly the alert of the case."""
    assert names(watch_case(case)) == [FIRING[case][0]]


@pytest.mark.parametrize("case", QUIET)
def test_no_alert_fires(case: str) -> None:
    """The console fires nothing."""
    assert names(watch_case(case)) == []


def test_every_alert_has_a_case() -> None:
    """Each of the rules fires in at least one case."""
    assert {alert.partition(" ")[0] for alert, _ in FIRING.values()} == {rule.name for rule in RULES}


def test_all_ingest_processes_are_down() -> None:
    """Without any ingest process, the alert names ingest as a whole, also when its address is gone."""
    metrics = {series: values for series, values in HEALTHY.items() if INGEST not in series}

    assert names(watch(metrics).firing) == ["AckstreamDown ingest"]


def test_pages_come_first_and_carry_the_next_step() -> None:
    """Pages come before warnings; each alert has a summary, the risk, the next step and its start."""
    alerts = watch({**HEALTHY, **FIRING["memory"][1], **FIRING["nobody reads"][1]}).firing

    page, warning = alerts
    assert (page.severity, warning.severity) == (Severity.PAGE, Severity.WARNING)
    assert page.summary == "g: no worker reads its statuses"
    assert all(alert.risk and alert.next_step for alert in alerts)
    assert page.since == 0.0


def expected(alert: FiringAlert) -> dict[str, Any]:
    """Return the alert as Prometheus must show it."""
    rule = next(rule for rule in RULES if rule.name == alert.name)
    placeholder = f"{{{{ $labels.{rule.label} }}}}"
    annotations = {name: text.replace(placeholder, alert.subject) for name, text in annotate(rule).items()}
    annotations["runbook_url"] = annotations["runbook_url"].replace(CONSOLE, ADDRESS)
    assert annotations["runbook_url"] == ADDRESS + alert.runbook
    return {
        "exp_labels": {"severity": str(rule.severity)} | ({rule.label: alert.subject} if rule.label else {}),
        "exp_annotations": annotations,
    }


@needs_promtool
def test_prometheus_fires_the_same_alerts(tmp_path: Path) -> None:
    """For each case promtool finds exactly the alerts that the console fires, with the same texts."""
    tests = []
    for case, metrics in CASES.items():
        series, firing = {**HEALTHY, **metrics}, watch_case(case)
        checks = [
            {
                "eval_time": f"{MINUTES}m",
                "alertname": rule.name,
                "exp_alerts": [expected(alert) for alert in firing if alert.name == rule.name],
            }
            for rule in RULES
        ]
        tests.append(
            {
                "name": case,
                "interval": "1m",
                "external_labels": {"console": ADDRESS},
                "input_series": to_promtool(series),
                "alert_rule_test": checks,
            }
        )
    file = tmp_path / "tests.yml"
    alerts = write_alerts(tmp_path / "alerts.yml")
    file.write_text(json.dumps({"rule_files": [str(alerts)], "evaluation_interval": "1m", "tests": tests}))

    result = promtool("test", "rules", str(file))

    assert result.returncode == 0, result.stdout + result.stderr


def write_alerts(path: Path) -> Path:
    """Write the rules without the groups that only record: promtool would evaluate those for each minute too."""
    rules = yaml.safe_load(reference.RULES.read_text())
    groups = [group for group in rules["groups"] if any("alert" in rule for rule in group["rules"])]
    path.write_text(json.dumps({"groups": groups}))
    return path


@needs_promtool
def test_the_rules_and_the_configuration_are_valid() -> None:
    """Promtool accepts the files, with all its checks."""
    rules = promtool("check", "rules", "--lint=all", "--lint-fatal", str(reference.RULES))
    configuration = promtool("check", "config", str(reference.RULES.with_name("prometheus.yml")))

    assert rules.returncode == 0, rules.stdout + rules.stderr
    assert configuration.returncode == 0, configuration.stdout + configuration.stderr


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run promtool to its end."""
    environment = os.environ | {"GOGC": "400"}  # it collects less garbage: a fifth of its processor time
    return subprocess.run(
        [PROMTOOL or "", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
