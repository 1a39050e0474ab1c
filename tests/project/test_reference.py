"""The reference pages say what the code says."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from console.web.metrics.gauges import REGISTRY as CONSOLE_REGISTRY
from deploy.docs import alerts_page, json_page, metrics_page, reference
from deploy.docs.running import Child
from ingest.settings import IngestSettings
from tests.support.processes import ACKSTREAM, start_process
from worker.settings import WorkerSettings


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_reference_page_is_what_the_code_says_now(name: str) -> None:
    """The page in docs/reference/ equals the page that `make reference` writes; if it differs, run that command."""
    assert (reference.FOLDER / name).read_text() == reference.PAGES[name]()


def test_the_alert_rules_are_what_the_code_says_now() -> None:
    """The rules for Prometheus equal those that `make reference` writes; if they differ, run that command."""
    assert reference.RULES.read_text() == alerts_page.render_rules()


def test_every_setting_has_a_row() -> None:
    """The settings page has one row for each field of the settings classes."""
    page = (reference.FOLDER / "configuration.md").read_text()
    names = {*IngestSettings.model_fields, *WorkerSettings.model_fields}
    assert [name for name in names if f"| `ACKSTREAM_{name.upper()}`" not in page] == []


def test_every_metric_has_a_row() -> None:
    """The metrics page has exactly the metrics that the processes register."""
    for package in ("ingest", "runtime", "worker"):
        import_module(f"{package}.metrics")
    collected = [*REGISTRY.collect(), *CONSOLE_REGISTRY.collect()]
    registered = {metric.name for metric in collected if metric.name.startswith("ackstream_")}
    assert {name.removesuffix("_total") for name in metrics_page.names()} == registered


def test_the_commands_print_the_json_that_the_page_shows() -> None:
    """Every field of the page is printed with a type that fits, and no other field; else run `make reference`."""
    shown = json_page.parse((reference.FOLDER / reference.JSON).read_text())

    def start(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Child:
        return start_process((*ACKSTREAM, *arguments), folder, "up", environment).child

    printed = json_page.record_shapes(start)

    assert {command: list(shape) for command, shape in printed.items()} == {
        command: list(shape) for command, shape in shown.items()
    }
    assert [
        (command, name)
        for command, shape in printed.items()
        for name, kind in shape.items()
        if not json_page.are_compatible(kind, shown[command][name])
    ] == []
