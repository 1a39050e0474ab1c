"""The objects for Kubernetes: sources, Helm chart, schemas, and the expectations of the processes."""

import functools
import importlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from redis.asyncio import Redis

from console.web.access.roles import Role
from console.web.access.tokens import TokenTable
from console.web.database import open_console_database
from console.web.settings import ConsoleSettings
from deploy.docs import alerts_page, reference
from ingest.settings import IngestSettings
from stream.keys import Shard
from tests.support.deployment.manifests import (
    RENDERED,
    SOURCES,
    find_pods,
    normalize,
    read_object,
    read_rendered,
    run_helm,
    run_kustomize,
)
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.samples.signed import SECRETS
from tests.support.streams.retention import register
from worker.settings import WorkerSettings

VERSIONS = "1.30", "1.37"
CUSTOM = {"ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"}
IGNORED_SCORES = (
    "container-image-pull-policy",  # Always would make the start of a pod depend on the registry
)
CONSOLE_HOST = {"Host": "ackstream-console:8080"}


@pytest.mark.parametrize("name", SOURCES)
def test_the_rendered_objects_are_up_to_date(name: str) -> None:
    """The output of kustomize equals the file under version control; if it differs, run `make kubernetes`."""
    assert run_kustomize(name) == (RENDERED / f"{name}.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "enabled"), [("base", {}), ("keda", {"keda": True}), ("monitoring", {"monitoring": True})]
)
def test_the_chart_renders_the_same_objects(name: str, enabled: dict[str, bool]) -> None:
    """`helm template` with the values of the chart gives the objects of the base and of each overlay."""
    chart = run_helm(**{"keda": False, "monitoring": False} | enabled)

    assert normalize(chart) == normalize(read_rendered(name))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_objects_are_valid(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each object fits the schema of the lowest and the highest version of Kubernetes, and has no unknown field."""
    kubernetes_validate = importlib.import_module("kubernetes_validate")
    utils = importlib.import_module("kubernetes_validate.utils")
    monkeypatch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))  # or once for each object
    distinct = {str(item): item for name in SOURCES for item in read_rendered(name)}

    for item in distinct.values():
        if item["kind"] not in CUSTOM:
            kubernetes_validate.validate(item, version, strict=True)


@pytest.fixture(params=VERSIONS)
def schemas(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The schemas of kubernetes-validate for one version, in a folder where kubeconform finds their definitions."""
    package = Path(str(importlib.import_module("kubernetes_validate").__file__)).parent
    folder = package / "kubernetes-json-schema" / f"v{request.param}.0-local-strict"
    kinds = {item["kind"].lower() for name in SOURCES for item in read_rendered(name)}
    for path in folder.iterdir():
        if path.stem.partition("-")[0] in {*kinds, "_definitions"}:
            (tmp_path / path.name).write_text(
                path.read_text().replace("/api/_definitions", f"{tmp_path.as_uri()}/_definitions")
            )
    return f"{tmp_path}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"


def test_kubeconform_accepts_the_objects(schemas: str) -> None:
    """It finds no invalid object and no unknown field, and skips nothing but the objects of KEDA and Prometheus."""
    program = shutil.which("kubeconform")
    if program is None:
        pytest.skip("kubeconform is not installed")
    files = [str(RENDERED / f"{name}.yaml") for name in SOURCES]
    options = ("-strict", "-output", "json", "-summary", "-skip", ",".join(CUSTOM), "-schema-location", schemas)

    result = subprocess.run([program, *options, *files], capture_output=True, text=True, check=False)

    answer = json.loads(result.stdout)
    kinds = [item["kind"] for name in SOURCES for item in read_rendered(name)]
    skipped = sum(kind in CUSTOM for kind in kinds)
    assert (answer.get("resources", []), result.returncode) == ([], 0)
    assert (answer["summary"]["valid"], answer["summary"]["skipped"]) == (len(kinds) - skipped, skipped)


@pytest.mark.parametrize("name", SOURCES)
def test_kube_score_finds_nothing_critical(name: str) -> None:
    """kube-score has no critical finding, but for those that are ignored with a reason."""
    program = shutil.which("kube-score")
    if program is None:
        pytest.skip("kube-score is not installed")
    ignored = [part for test in IGNORED_SCORES for part in ("--ignore-test", test)]
    command = [program, "score", "--output-format", "ci", "--ignore-container-cpu-limit", *ignored]

    result = subprocess.run([*command, RENDERED / f"{name}.yaml"], capture_output=True, text=True, check=False)

    assert "[OK]" in result.stdout
    assert [line for line in result.stdout.splitlines() if line.startswith("[CRITICAL]")] == []


@pytest.mark.parametrize("name", SOURCES)
def test_every_container_is_confined(name: str) -> None:
    """No container runs as root, writes to its image, keeps a capability, or has a token of Kubernetes."""
    for workload, pod in find_pods(read_rendered(name)):
        assert pod["automountServiceAccountToken"] is False, workload
        assert pod["securityContext"]["runAsNonRoot"] is True, workload
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, workload
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, workload


def test_services_set_no_setting() -> None:
    """Kubernetes would set ACKSTREAM_CONSOLE_PORT=tcp://… after the Service of that name, so all pods refuse links."""
    for workload, pod in find_pods(read_rendered("base")):
        assert pod["enableServiceLinks"] is False, workload


def test_every_setting_exists() -> None:
    """The ConfigMap has names of settings, with values that the processes accept."""
    (settings,) = (item["data"] for item in read_rendered("base") if item["kind"] == "ConfigMap")
    values = {name.removeprefix("ACKSTREAM_").lower(): value for name, value in settings.items()}
    kinds = IngestSettings, WorkerSettings, ConsoleSettings
    known = {name for kind in kinds for name in kind.model_fields}

    assert {name.removesuffix("_file") if name not in known else name for name in values} <= known
    for kind in kinds:
        chosen = {name: value for name, value in values.items() if name in kind.model_fields}
        kind.load(**chosen, **({"signature_secrets": SECRETS} if "signatures" in chosen else {}))


def test_a_pod_has_time_to_stop() -> None:
    """Each grace period is longer than the pause before the signal, ACKSTREAM_GRACE_SECONDS, and 15 seconds more."""
    for workload, pod in find_pods(read_rendered("base")):
        pause = sum(
            int(container["lifecycle"]["preStop"]["exec"]["command"][1])
            for container in pod["containers"]
            if "lifecycle" in container
        )
        assert pod["terminationGracePeriodSeconds"] >= pause + IngestSettings().grace_seconds + 15, workload


def test_the_rules_are_those_of_prometheus() -> None:
    """Both copies for the Prometheus operator equal what `make reference` writes."""
    for path in reference.KUBERNETES_RULES:
        assert path.read_text() == alerts_page.render_kubernetes_rules()


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    """A console with the settings of the base."""
    (settings,) = (item["data"] for item in read_rendered("base") if item["kind"] == "ConfigMap")
    names = ("CONSOLE_ALLOWED_HOSTS", "CONSOLE_HOST")
    values: dict[str, Any] = {name.lower(): settings[f"ACKSTREAM_{name}"] for name in names}
    async with run_console(tmp_path, valkey_url, shard.name, **values) as running:
        yield running


async def test_the_autoscaler_gets_its_number(console: ConsoleServer, server: Redis, shard: Shard) -> None:
    """The request of the trigger, as KEDA sends it, is answered with the number, and a wrong group with an error."""
    trigger = read_object("keda", "ScaledObject", "ackstream-worker")["spec"]["triggers"][0]
    metadata = trigger["metadata"]
    await register(server, shard, "store")
    async with open_console_database(console.settings.console_database) as database:
        token = await TokenTable(database).add("autoscaler", Role.VIEWER)

    path = urlsplit(metadata["url"]).path
    headers = {**CONSOLE_HOST, "Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(console.url, headers=headers) as http:
        async with http.get(path) as answer:
            number = (await answer.json())[metadata["valueLocation"]]
        async with http.get(path.replace("store", "nobody")) as answer:
            assert answer.status >= 400

    assert number == 0
    assert urlsplit(metadata["url"]).netloc == CONSOLE_HOST["Host"]
    assert (trigger["metricType"], metadata["authMode"]) == ("AverageValue", "bearer")
    assert all(isinstance(value, str) for value in metadata.values())
