"""``python -m deploy.docs.reference``: writes docs/reference/, the rules for Prometheus and the dashboard."""

from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.docs import (
    alerts_page,
    capacity_page,
    commands_page,
    dashboard,
    doctor_page,
    json_page,
    keys_page,
    metrics_page,
    places_page,
    schema_page,
    settings_page,
)

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "configuration.md": settings_page.render,
    "cli.md": commands_page.render,
    "metrics.md": metrics_page.render,
    "alerts.md": alerts_page.render_page,
    "redis-keys.md": keys_page.render,
    "database-schema.md": schema_page.render,
    "stored-data.md": places_page.render,
    "../doctor.md": doctor_page.render,
    "../capacity.md": capacity_page.render,
}
RULES = FOLDER.parents[1] / "deploy" / "prometheus" / "ackstream.rules.yml"
DASHBOARD = FOLDER.parents[1] / "deploy" / "grafana" / "dashboards" / "ackstream.json"
KUBERNETES_RULES = [
    RULES.parents[1] / "kubernetes" / "overlays" / "monitoring" / "prometheus-rule.yaml",
    RULES.parents[1] / "helm" / "ackstream" / "prometheus-rule.yaml",
]
"""The same rules for the Prometheus operator: neither kustomize nor Helm reads files outside of its folder."""
JSON = "json.md"
"""This page is recorded from commands that run."""


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, render in PAGES.items():
        (FOLDER / name).write_text(render())
    RULES.write_text(alerts_page.render_rules())
    DASHBOARD.write_text(dashboard.render())
    for path in KUBERNETES_RULES:
        path.write_text(alerts_page.render_kubernetes_rules())
    (FOLDER / JSON).write_text(json_page.render(json_page.record_shapes()))


if __name__ == "__main__":
    main()
