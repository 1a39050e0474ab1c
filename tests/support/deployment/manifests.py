"""The objects that `deploy/kubernetes` and the Helm chart render, and the programs that render them."""

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
SOURCES = {
    "base": ROOT / "deploy" / "kubernetes" / "base",
    **{name: ROOT / "deploy" / "kubernetes" / "overlays" / name for name in ("demo", "keda", "monitoring")},
}
CHART = ROOT / "deploy" / "helm" / "ackstream"
RENDERED = ROOT / "tests" / "fixtures" / "kubernetes"
"""The output of kustomize, under version control, so that tests without the program can read it."""

Object = dict[str, Any]


def read_rendered(name: str) -> list[Object]:
    """Return the objects of the base or of an overlay."""
    return list(yaml.safe_load_all((RENDERED / f"{name}.yaml").read_text()))


def read_object(name: str, kind: str, object_name: str) -> Object:
    """Return one object."""
    (found,) = (item for item in read_rendered(name) if (item["kind"], item["metadata"]["name"]) == (kind, object_name))
    return found


def find_pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield the pod of each workload, with the name of the workload."""
    for item in objects:
        if "template" in item.get("spec", {}):
            yield item["metadata"]["name"], item["spec"]["template"]["spec"]


def run_kustomize(name: str) -> str:
    """Render the base or an overlay; skip the test without the program."""
    if kubectl := shutil.which("kubectl"):
        return _run(kubectl, "kustomize", str(SOURCES[name]))
    if kustomize := shutil.which("kustomize"):
        return _run(kustomize, "build", str(SOURCES[name]))
    pytest.skip("neither kubectl nor kustomize is installed")


def run_helm(**enabled: bool) -> list[Object]:
    """Render the chart with these parts enabled; skip the test without the program."""
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("helm is not installed")
    values = ",".join(f"{name}.enabled={str(value).lower()}" for name, value in enabled.items())
    return list(yaml.safe_load_all(_run(helm, "template", "ackstream", str(CHART), "--set", values)))


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def normalize(objects: list[Object]) -> Mapping[tuple[str, str], Object]:
    """Return the objects by kind and name, without the hash by which a change of settings restarts pods."""
    result = {}
    for item in copy.deepcopy(objects):
        if "template" in item.get("spec", {}):
            item["spec"]["template"]["metadata"].pop("annotations", None)
        text = re.sub(r"ackstream-settings-[a-z0-9]{10}", "ackstream-settings", yaml.safe_dump(item))
        normal = yaml.safe_load(text)
        result[normal["kind"], normal["metadata"]["name"]] = normal
    return result
