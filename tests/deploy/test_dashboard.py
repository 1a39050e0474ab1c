"""The dashboard and the configuration for Prometheus, Alertmanager and Grafana."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.docs import dashboard, metrics_page, reference
from deploy.docs.folders import ROOT
from deploy.docs.recorded_rules import RECORDED

PROMETHEUS, GRAFANA = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana"
MINUTES = 20
SERIES = {
    'ackstream_webhooks_total{answer="200",instance="a"}': 594,
    'ackstream_webhooks_total{answer="503",instance="b"}': 6,
    'ackstream_answer_seconds_bucket{le="0.01",instance="a"}': 300,
    'ackstream_answer_seconds_bucket{le="0.02",instance="a"}': 600,
    'ackstream_answer_seconds_bucket{le="+Inf",instance="a"}': 600,
    'ackstream_signatures_refused_total{result="unsigned",instance="a"}': 60,
    'ackstream_append_seconds_bucket{le="0.1",instance="a"}': 60,
    'ackstream_append_seconds_bucket{le="+Inf",instance="a"}': 60,
    'ackstream_events_handled_total{group="g",instance="w"}': 540,
    'ackstream_handler_failures_total{group="g",error="ValueError",instance="w"}': 60,
    'ackstream_handle_seconds_bucket{group="g",le="1",instance="w"}': 600,
    'ackstream_handle_seconds_bucket{group="g",le="+Inf",instance="w"}': 600,
}
"""Counter → its increase in a minute."""
GAUGES = {
    'ackstream_spool_entries{instance="a"}': 3,
    'ackstream_spool_entries{instance="b"}': 4,
    'ackstream_spool_bytes{instance="a"}': 10,
    'ackstream_spool_bytes{instance="b"}': 30,
    'ackstream_spool_limit_bytes{instance="a"}': 100,
    'ackstream_spool_limit_bytes{instance="b"}': 100,
    'ackstream_redis_memory_ratio{instance="a"}': 0.4,
    'ackstream_redis_memory_ratio{instance="b"}': 0.5,
    'ackstream_outstanding{group="g"}': 9,
    'ackstream_oldest_seconds{group="g"}': 2,
    'ackstream_dead_letters{group="g"}': 5,
    'ackstream_live_consumers{group="g"}': 2,
    'ackstream_process{kind="ingest",instance="a"}': 1,
    'ackstream_process{kind="ingest",instance="b"}': 1,
    'ackstream_process{kind="worker",instance="w"}': 1,
    'ALERTS{alertname="Other",alertstate="firing"}': 1,
}
EXPECTED: Mapping[str, Mapping[str, float]] = {
    "ackstream:webhooks:rate5m": {'{answer="200"}': 9.9, '{answer="503"}': 0.1},
    "ackstream:webhook_errors:ratio5m": {"": 0.01},
    "ackstream:answer_seconds:p50_5m": {"": 0.01},
    "ackstream:answer_seconds:p99_5m": {"": 0.0198},
    "ackstream:signatures_refused:rate5m": {'{result="unsigned"}': 1},
    "ackstream:append_seconds:p99_5m": {"": 0.099},
    "ackstream:spool_entries:sum": {"": 7},
    "ackstream:spool_use:max": {"": 0.3},
    "ackstream:redis_memory:max": {"": 0.5},
    "ackstream:events_handled:rate5m": {'{group="g"}': 9},
    "ackstream:handle_seconds:p99_5m": {'{group="g"}': 0.99},
    "ackstream:handler_failures:ratio5m": {'{group="g"}': 0.1},
    "ackstream:outstanding:max": {'{group="g"}': 9},
    "ackstream:oldest_seconds:max": {'{group="g"}': 2},
    "ackstream:dead_letters:max": {'{group="g"}': 5},
    "ackstream:processes:count": {'{kind="ingest"}': 2, '{kind="worker"}': 1},
    "ackstream:live_consumers:max": {'{group="g"}': 2},
    "ackstream:alerts_firing:count": {'{alertname="AckstreamSpoolInUse"}': 2},
}
"""Recording rule → the values of its lines."""


def run(command: str, *arguments: str) -> None:
    """Run a tool of Debian; skip without it, and fail with its output if it finds a fault."""
    if shutil.which(command) is None:
        pytest.skip(f"{command} is missing: apt install prometheus prometheus-alertmanager")
    result = subprocess.run((command, *arguments), capture_output=True, text=True, check=False, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr


def find_targets(panels: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the expression and the legend of each line, in the order of the panels."""
    return [(target["expr"], target["legendFormat"]) for panel in panels for target in panel.get("targets", ())]


def test_the_dashboard_is_what_the_code_says_now() -> None:
    """The file equals the one that `make reference` writes; if it differs, run that command."""
    assert reference.DASHBOARD.read_text() == dashboard.render()


def test_each_line_draws_a_recording_rule() -> None:
    """The panels draw each rule once, with a legend of labels that the rule keeps, and do not overlap."""
    panels = json.loads(reference.DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert find_targets(panels) == [(rule.name, rule.legend) for rule in RECORDED]
    assert {
        rule.name
        for rule in RECORDED
        for label in re.findall(r"{{(\w+)}}", rule.legend)
        if f"({label}" not in rule.expression
    } == set()
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < dashboard.COLUMNS
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_each_rule_reads_metrics_that_exist() -> None:
    """Each metric of a recording rule is one that a process has."""
    names = {
        name.removesuffix("_bucket") for rule in RECORDED for name in re.findall(r"ackstream_\w+", rule.expression)
    }
    assert names - set(metrics_page.names()) == set()


def test_each_rule_has_its_values(tmp_path: Path) -> None:
    """Promtool computes the expected values of every recording rule."""
    counters = [{"series": series, "values": f"0+{step}x{MINUTES}"} for series, step in SERIES.items()]
    gauges = [{"series": series, "values": f"{value}x{MINUTES}"} for series, value in GAUGES.items()]
    checks = [
        {
            "expr": f"round({name}, 1e-6)",
            "eval_time": f"{MINUTES}m",
            "exp_samples": [{"labels": labels or "{}", "value": value} for labels, value in lines.items()],
        }
        for name, lines in EXPECTED.items()
    ]
    tests = [{"interval": "1m", "input_series": counters + gauges, "promql_expr_test": checks}]
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"rule_files": [str(reference.RULES)], "evaluation_interval": "1m", "tests": tests}))

    assert list(EXPECTED) == [rule.name for rule in RECORDED]
    run("promtool", "test", "rules", str(file))


def test_alertmanager_takes_its_configuration() -> None:
    """Amtool accepts the file, and sends pages and warnings to their receivers."""
    file = f"--config.file={PROMETHEUS / 'alertmanager.yml'}"

    run("amtool", "check-config", str(PROMETHEUS / "alertmanager.yml"))
    for severity, receiver in (("page", "pages"), ("warning", "warnings")):
        run("amtool", "config", "routes", "test", file, f"--verify.receivers={receiver}", f"severity={severity}")


def test_compose_mounts_files_that_exist() -> None:
    """The services of the profile `observability` mount files of the repository, at the paths that these files name."""
    compose = (ROOT / "docker-compose.yml").read_text()
    mounted = re.findall(r'[" ](\./deploy/[\w/]+):(/[\w/]+):ro', compose)

    assert dict(mounted) == {
        "./deploy/prometheus": "/etc/alertmanager",
        "./deploy/grafana/provisioning": "/etc/grafana/provisioning",
        "./deploy/grafana/dashboards": "/etc/grafana/dashboards",
    }
    assert all((ROOT / source).is_dir() for source, _ in mounted)
    provider = (GRAFANA / "provisioning" / "dashboards" / "ackstream.yml").read_text()
    assert "path: /etc/grafana/dashboards}" in provider
