import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("ackstream", "console", "ingest", "runtime", "stream", "worker")
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

PURE = {
    "ingest/auth/receipts.py",
    "ingest/auth/jwt.py",
    "stream/entry.py",
    "stream/payload.py",
    "worker/dispatch/circuit_breaker.py",
    "worker/handlers/errors.py",
    "worker/replay/rate_limiter.py",
    "worker/events/samples.py",
    "worker/store/projection.py",
    "worker/events/delivery_receipt.py",
    "worker/replay/job.py",
    "worker/settle/schedule.py",
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
    "ingest/http/responses.py",
    "ingest/http/server.py",
    "ingest/http/webhook.py",
    "runtime/health.py",
}


@cache
def tree(module: Path) -> ast.Module:
    """Its syntax, parsed once for all tests."""
    return ast.parse((ROOT / module).read_text())


def imports(module: Path) -> Iterator[tuple[str, int]]:
    """Every imported name with its level (0 is absolute)."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.level) for alias in node.names)


@cache
def imported(module: Path) -> frozenset[str]:
    return frozenset(name for name, _ in imports(module))


def packages(module: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(module)}


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
    assert {module: found for module, found in crossed.items() if found} == {}


def test_the_core_does_no_io() -> None:
    """Entry, status, parsing and projection import nothing that reaches the outside."""
    outside = {"aiohttp", "asyncio", "os", "redis", "socket", "sqlalchemy", "subprocess", "time"}
    reached = {name: packages(Path(name)) & outside for name in PURE}
    assert {name: found for name, found in reached.items() if found} == {}


def test_the_wire_contract_needs_the_standard_library_only() -> None:
    """stream.entry can be copied into any program."""
    assert packages(Path("stream/entry.py")) <= {"re", "collections", "dataclasses", "operator", "typing"}


def test_http_is_served_in_few_places() -> None:
    """Aiohttp's server is used in ingest.http and runtime.health only."""
    users = {str(module) for module in MODULES if any(name.startswith("aiohttp.web") for name in imported(module))}
    assert users <= HTTP_SERVERS


def test_the_environment_is_read_in_settings_only() -> None:
    """No module but the settings reads os.environ."""
    readers = [
        str(module)
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv"}
    ]
    assert [reader for reader in readers if Path(reader).name != "settings.py"] == []


def test_imports_are_absolute() -> None:
    """No relative import."""
    assert [str(module) for module in MODULES if any(level for _, level in imports(module))] == []


def test_files_stay_small() -> None:
    """No file is over 300 lines, tests and bench included."""
    files = [path for folder in (*PACKAGES, "bench", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert [str(path) for path in files if len(path.read_text().splitlines()) > 300] == []
