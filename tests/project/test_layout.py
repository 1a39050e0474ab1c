import ast
from collections import Counter
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.docs.folders import (
    BENCH_MODULES,
    MODULES,
    PACKAGES,
    ROOT,
    crossings,
    find_modules,
    folder,
    imported,
    imports,
    statements,
    tree,
)

# One process parses all modules once.
pytestmark = pytest.mark.one_process("layout")

PURE = {
    "ingest/auth/receipts.py",
    "ingest/auth/jwt.py",
    "stream/entry.py",
    "stream/payload.py",
    "worker/dispatch/circuit_breaker.py",
    "worker/handlers/errors.py",
    "worker/replay/rate_limiter.py",
    "worker/events/samples.py",
    "worker/store/contribution.py",
    "worker/store/projection.py",
    "worker/events/delivery_receipt.py",
    "worker/replay/job.py",
    "worker/replay/entry_filter.py",
    "worker/events/event.py",
    "worker/events/timestamps.py",
    "worker/consumer/fetch_plan.py",
    "worker/settle/retry_policy.py",
    "worker/events/text.py",
    "worker/events/url_query.py",
    "worker/events/vonage.py",
}
HTTP_SERVERS = {
    "ingest/http/connection.py",
    "ingest/http/request.py",
    "ingest/http/responses.py",
    "ingest/http/server.py",
    "ingest/http/webhook.py",
    "runtime/health.py",
}


def packages(module: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(module)}


def find_cycle(edges: Iterable[tuple[str, str]]) -> list[str]:
    """Return the imports that make a cycle of folders."""
    graph: dict[str, set[str]] = {}
    reasons = {}
    for source, target in edges:
        graph.setdefault(folder(source), set()).add(folder(target))
        reasons[folder(source), folder(target)] = f"{source} imports {target}"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        return [reasons[later, earlier] for earlier, later in pairwise(exc.args[1])]
    return []


def test_packages_keep_their_distance() -> None:
    """Runtime imports none of ours, stream only runtime, ingest and worker not each other; nobody imports console."""
    forbidden = {
        "ackstream": {"console", "ingest", "runtime", "stream"},
        "ingest": {"ackstream", "worker", "console"},
        "worker": {"ackstream", "ingest", "console"},
        "runtime": {"ackstream", "ingest", "stream", "worker", "console"},
        "stream": {"ackstream", "ingest", "worker", "console"},
        "console": {"ackstream"},
    }
    crossed = {str(module): packages(module) & forbidden[module.parts[0]] for module in MODULES}
    assert {module: names for module, names in crossed.items() if names} == {}


def test_the_public_import_only_exports() -> None:
    """The ackstream package has imports, docstrings and __all__, and nothing else."""
    kinds = (ast.ImportFrom, ast.Expr, ast.Assign)
    modules = [module for module in MODULES if module.parts[0] == "ackstream"]

    others = [ast.unparse(node) for module in modules for node in tree(module).body if not isinstance(node, kinds)]

    assert others == []


def test_the_folder_graph_has_no_cycle() -> None:
    """Folders can be read one after another, each after those that it imports; modules of a root count one by one."""
    assert find_cycle(edge for module in (*MODULES, *BENCH_MODULES) for edge in crossings(module)) == []


def test_a_cycle_is_found() -> None:
    """Two folders that import each other are reported with both imports."""
    edges = [("worker.group.claim", "worker.sources"), ("worker.sources", "worker.group.claim")]

    assert sorted(find_cycle(edges)) == [
        "worker.group.claim imports worker.sources",
        "worker.sources imports worker.group.claim",
    ]


def test_the_core_does_no_io() -> None:
    """Entry, status, parsing and projection import nothing that reaches the outside."""
    outside = {"aiohttp", "asyncio", "os", "redis", "socket", "sqlalchemy", "subprocess", "time"}
    reached = {name: packages(Path(name)) & outside for name in PURE}
    assert {name: names for name, names in reached.items() if names} == {}


def test_the_wire_contract_needs_the_standard_library_only() -> None:
    """stream.entry can be copied into any program."""
    assert packages(Path("stream/entry.py")) <= {"re", "collections", "dataclasses", "operator", "typing"}


def test_http_is_served_in_few_places() -> None:
    """Aiohttp's server is used in ingest.http, runtime.health and the folder console.web only."""
    users = {str(module) for module in MODULES if any(name.startswith("aiohttp.web") for name in imported(module))}
    assert {user for user in users if not user.startswith("console/web/")} <= HTTP_SERVERS


def test_the_environment_is_read_in_settings_only() -> None:
    """No module but the settings reads os.environ, except to hide a variable of OpenSSL during one import."""
    readers = {
        str(module)
        for module in MODULES
        if "environ" in (text := (ROOT / module).read_text()) or "getenv" in text
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv"}
    }
    assert {reader for reader in readers if Path(reader).name != "settings.py"} == {"console/lean_import.py"}


def test_imports_are_absolute() -> None:
    """No module has a relative import."""
    assert [str(module) for module in (*MODULES, *BENCH_MODULES) if any(level for _, level in imports(module))] == []


def test_files_stay_small() -> None:
    """No file is over 300 lines, tests and bench included."""
    files = [path for top in (*PACKAGES, "bench", "tests") for path in (ROOT / top).rglob("*.py")]
    assert [str(path) for path in files if len(path.read_text().splitlines()) > 300] == []


def test_folders_stay_small() -> None:
    """No folder has more than 12 modules, tests and bench included, without its __init__."""
    files = [path for top in (*PACKAGES, "bench", "tests") for path in (ROOT / top).rglob("*.py")]
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in files if path.name != "__init__.py")
    assert {name: count for name, count in counts.items() if count > 12} == {}


def test_functions_stay_short() -> None:
    """No function of the packages and of bench is over 45 lines."""
    lengths = {
        f"{module}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in (*MODULES, *BENCH_MODULES)
        for node in statements(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > 45} == {}


def test_only_support_is_shared_between_tests() -> None:
    """A module of tests imports tests.support and its own chaos, fuzz or project package, and never a test module."""
    crossed = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / "tests").rglob("*.py")
        for name in sorted(imported(path.relative_to(ROOT)))
        if name.startswith("tests.") and not is_shared_with(path, name)
    ]

    assert crossed == []


def is_shared_with(path: Path, name: str) -> bool:
    """Whether this file may import this module of tests."""
    _, package, *rest = name.split(".")
    if any(part.startswith("test_") for part in rest):
        return False
    is_own = package in {"chaos", "fuzz", "project"} and path.relative_to(ROOT).parts[1] == package
    return package == "support" or is_own


def test_no_class_of_the_tests_is_called_site() -> None:
    """The name of a class in tests says what it is."""
    classes = [
        f"{module}:{node.lineno}"
        for module in find_modules("tests")
        for node in statements(module)
        if isinstance(node, ast.ClassDef) and node.name == "Site"
    ]

    assert classes == []


def test_no_two_classes_have_one_name() -> None:
    """A class name is used once in all packages, once in bench and once in tests, so that a search finds one class."""
    assert find_twice(MODULES) == find_twice(BENCH_MODULES) == find_twice(find_modules("tests")) == {}


def find_twice(modules: Iterable[Path]) -> dict[str, list[str]]:
    """Return the class names that several modules use, with these modules."""
    places: dict[str, list[str]] = {}
    for module in modules:
        for node in statements(module):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(module))
    return {name: users for name, users in places.items() if len(users) > 1}
