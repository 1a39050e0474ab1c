"""The imports between the modules and folders of the packages, for the picture of them and for the tests of layout."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("ackstream", "console", "ingest", "runtime", "stream", "worker")


def find_modules(*packages: str) -> list[Path]:
    """Return the paths of all modules of these packages."""
    return sorted(path.relative_to(ROOT) for package in packages for path in (ROOT / package).rglob("*.py"))


MODULES = find_modules(*PACKAGES)
BENCH_MODULES = find_modules("bench")
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
NAMES = {
    ".".join(module.with_suffix("").parts).removesuffix(".__init__"): module for module in (*MODULES, *BENCH_MODULES)
}


@cache
def tree(module: Path) -> ast.Module:
    """Return its syntax, which is parsed once."""
    return ast.parse((ROOT / module).read_text())


@cache
def statements(module: Path) -> tuple[ast.stmt, ...]:
    """Return its statements at any depth. Most of a tree is expressions, which it does not visit."""
    listed: list[ast.stmt] = []
    blocks: list[list[ast.AST]] = [[*tree(module).body]]
    while blocks:
        for node in blocks.pop():
            if isinstance(node, ast.stmt):
                listed.append(node)
            blocks += (getattr(node, part) for part in BLOCKS if part in node._fields)
    return tuple(listed)


def imports(module: Path) -> Iterator[tuple[str, int]]:
    """Yield every imported name with its level (0 is absolute)."""
    for node in statements(module):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.level) for alias in node.names)


@cache
def imported(module: Path) -> frozenset[str]:
    """Return every imported name of a module."""
    return frozenset(name for name, _ in imports(module))


def folder(name: str) -> str:
    """Return the folder below the package that a module is in, or the module itself if it is in the package's root."""
    return ".".join(name.split(".")[:2])


def crossings(module: Path) -> Iterator[tuple[str, str]]:
    """Yield the imports of a module that lead to another folder, as (from, to)."""
    name = ".".join(module.with_suffix("").parts).removesuffix(".__init__")
    for target in imported(module):
        module_name = target if target in NAMES else target.rpartition(".")[0]
        if module_name in NAMES and folder(module_name) != folder(name):
            yield name, module_name
