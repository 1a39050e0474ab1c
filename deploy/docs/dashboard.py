"""The Grafana dashboard, made from the list of recording rules: a row for each topic, a panel for each title."""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from deploy.docs.recorded_rules import RECORDED, Recorded

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 39
"""Of Grafana 10.4; later versions convert it when they read it."""
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 24, 8, 8


def render() -> str:
    """Return the dashboard as JSON."""
    dashboard = {
        "uid": "ackstream",
        "title": "Ackstream",
        "description": "Made by `make reference` from the recording rules. Change them, not this file.",
        "tags": ["ackstream"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {
            "list": [{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "annotations": {"list": []},
        "links": [],
        "panels": list(_panels()),
    }
    return json.dumps(dashboard, indent=2) + "\n"


def _panels() -> Iterator[dict[str, Any]]:
    y, number = 0, 0
    for row, rules in groupby(RECORDED, key=lambda rule: rule.row):
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row,
            "collapsed": False,
            "gridPos": _place(0, y, COLUMNS, 1),
            "panels": [],
        }
        y += 1
        x = 0
        for title, lines in groupby(rules, key=lambda rule: rule.title):
            if x == COLUMNS:
                x, y = 0, y + PANEL_HEIGHT
            number += 1
            yield _panel(number, title, list(lines), _place(x, y, PANEL_WIDTH, PANEL_HEIGHT))
            x += PANEL_WIDTH
        y += PANEL_HEIGHT


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(number: int, title: str, rules: Sequence[Recorded], place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": rules[0].unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "none"},
        },
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": rule.name, "legendFormat": rule.legend}
            for place, rule in enumerate(rules)
        ],
    }
