"""The product uses public names of other packages only."""

import re
import tomllib

import pytest

from deploy.docs.folders import BENCH_MODULES, MODULES, ROOT, imported

# The process of these parses all modules once.
pytestmark = pytest.mark.one_process("layout")

ALL_MODULES = (*MODULES, *BENCH_MODULES)


def test_no_private_name_is_imported() -> None:
    """A part that starts with an underscore is another package's own business, and moves without notice."""
    private = [
        f"{module}: {name}" for module in ALL_MODULES for name in imported(module) if re.search(r"(^|\.)_[a-z]", name)
    ]
    assert private == []


def test_no_private_attribute_is_excused() -> None:
    """Ruff refuses `other._name` (SLF001), and nothing in the product switches that off."""
    assert [str(module) for module in ALL_MODULES if "SLF001" in (ROOT / module).read_text()] == []


def test_the_rule_about_private_names_holds_everywhere_but_in_tests() -> None:
    """Ruff's settings select it, and ignore it nowhere in the product."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    ignores = lint["per-file-ignores"]

    excused = [pattern for pattern, rules in ignores.items() if {"ALL", "SLF", "SLF001"} & set(rules)]

    assert lint["select"] == ["ALL"]
    assert not {"SLF", "SLF001"} & set(lint["ignore"])
    assert [pattern for pattern in excused if not pattern.startswith("tests")] == []
