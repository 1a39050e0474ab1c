"""The product uses public names of other packages only."""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("ackstream", "bench", "console", "ingest", "runtime", "stream", "worker")
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def find_imports(module: Path) -> set[str]:
    """Every imported module and name, as one dotted path."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_no_private_name_is_imported() -> None:
    """A part that starts with an underscore is another package's own business, and moves without notice."""
    private = [
        f"{module}: {name}" for module in MODULES for name in find_imports(module) if re.search(r"(^|\.)_[a-z]", name)
    ]
    assert private == []


def test_no_private_attribute_is_excused() -> None:
    """Ruff refuses `other._name` (SLF001), and nothing in the product switches that off."""
    assert [str(module) for module in MODULES if "SLF001" in (ROOT / module).read_text()] == []


def test_the_rule_about_private_names_holds_everywhere_but_in_tests() -> None:
    """Ruff's settings select it, and ignore it nowhere in the product."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    ignores = lint["per-file-ignores"]

    excused = [pattern for pattern, rules in ignores.items() if {"ALL", "SLF", "SLF001"} & set(rules)]

    assert lint["select"] == ["ALL"]
    assert not {"SLF", "SLF001"} & set(lint["ignore"])
    assert [pattern for pattern in excused if not pattern.startswith("tests")] == []
