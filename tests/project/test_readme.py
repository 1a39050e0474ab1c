"""The README and the pages of docs/: every command and every code block that they show works."""

import asyncio
import importlib
import re
import signal
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from console.up.valkey import find_free_port
from tests.support.processes import ackstream, run_ackstream
from tests.support.samples.events import body, event
from tests.support.waiting import until
from tests.support.workers.up_folder import STOP_SECONDS
from worker import Discard, Retry
from worker.handlers.function import load

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PYPI = ROOT / "deploy" / "pypi.md"
PAGES = [README, PYPI, *sorted((ROOT / "docs").glob("*.md"))]

# These run until they are stopped, or take minutes: each has a test of its own, or is a step of CI.
ELSEWHERE = {
    "make run": "tests/system/test_up.py",
    "pip install 'ackstream[console,embedded]'": "deploy/package.py",
    "ackstream up": "tests/system/test_up.py",
    "docker compose up --build --scale worker=4": "tests/system/test_compose.py",
    "ackstream doctor": "tests/system/test_up.py",  # it wants to be alone: a problem is exit code 1
    "ackstream ingest": "tests/system/test_crash.py",
    "ackstream worker": "tests/system/test_crash.py",
    "ackstream worker --handler store": "tests/system/test_crash.py",
    "ackstream worker --handler orders:on_status": "tests/system/worker/test_handlers.py",
    "make bench": "Makefile",
    "make guard": "Makefile",
    "make chaos": "tests/chaos/test_chaos.py",
    "ackstream demo": "tests/system/test_up.py",
}

SIMPLE_COMMAND = re.compile(r"ackstream( [\w.+-]+)+")
"""A command without anything for a shell, which runs in a forked process."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines()]


@pytest.fixture
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules of the working folder can be imported, and are forgotten at the end."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("orders", "test_orders"):
        sys.modules.pop(name, None)


def test_the_readme_is_short() -> None:
    """At most 150 lines and 1,500 words, and no row of a table has more than 120 characters."""
    lines = README.read_text().splitlines()

    assert len(lines) <= 150
    assert len(README.read_text().split()) < 1500
    assert [line for line in lines if line.startswith("|") and len(line) > 120] == []


@pytest.mark.usefixtures("_modules")
async def test_the_handler_in_the_readme_works(tmp_path: Path) -> None:
    """The function takes an event with a reference, and discards one without."""
    (code,) = blocks(README, "python")
    (tmp_path / "orders.py").write_text(code)

    function, takes_lists = load("orders:on_status")

    assert not takes_lists
    await function(event(body(client_ref="order-7")))
    with pytest.raises(Discard, match="no order"):
        await function(event(body()))


@pytest.mark.usefixtures("_modules")
async def test_the_handler_in_the_guide_works(tmp_path: Path) -> None:
    """The function of docs/handlers.md discards, asks for a retry, and returns."""
    (code,) = blocks(ROOT / "docs" / "handlers.md", "python")
    (tmp_path / "orders.py").write_text(code)

    function, _ = load("orders:on_status")

    await function(event(body(client_ref="order-7")))
    with pytest.raises(Discard, match="no order"):
        await function(event(body()))
    with pytest.raises(Retry):
        await function(event(body(client_ref="order-7", status="submitted")))


@pytest.mark.usefixtures("_modules")
async def test_the_test_in_the_guide_passes(tmp_path: Path) -> None:
    """The two tests of docs/testing-handlers.md pass with the example handler and a table of orders."""
    (code,) = blocks(ROOT / "docs" / "testing-handlers.md", "python")
    (tmp_path / "test_orders.py").write_text(code)
    (tmp_path / "orders.py").write_text((ROOT / "docs" / "examples" / "orders.py").read_text())
    with sqlite3.connect(tmp_path / "orders.db") as database:
        database.execute("CREATE TABLE orders (id TEXT PRIMARY KEY, delivered_at TEXT)")
        database.execute("INSERT INTO orders VALUES ('order-7', NULL)")
    database.close()

    module = importlib.import_module("test_orders")

    await module.test_a_delivered_message_closes_its_order()
    await module.test_an_order_that_is_missing_is_waited_for()


@pytest.mark.parametrize("command", ELSEWHERE)
def test_commands_that_run_elsewhere_are_shown(command: str) -> None:
    """The list of commands that are not run here has only commands that a page shows, and their tests exist."""
    assert command in [line for page in PAGES for line in commands(page)]
    assert (ROOT / ELSEWHERE[command]).exists()


async def test_every_other_command_works() -> None:
    """With a running `ackstream up`, each command of the README and of docs/ exits with 0."""
    port, admin_port, console_port = find_free_port(), find_free_port(), find_free_port()
    ports = ("--port", str(port), "--admin-port", str(admin_port), "--console-port", str(console_port))
    with ackstream("up", *ports, folder=Path.cwd()) as up:
        await up.is_ready(admin_port)
        pages = [[line for line in commands(page) if line not in ELSEWHERE] for page in PAGES]
        assert sum(map(len, pages)) >= 12
        first, *rest = [[line.replace("127.0.0.1:3000", f"127.0.0.1:{port}") for line in lines] for lines in pages]
        await run_in_turn(first)
        await asyncio.gather(*(run_in_turn([line for line in lines if line not in first]) for lines in rest))
        up.send(signal.SIGTERM)
        await up.wait_for_end(STOP_SECONDS)


def test_pages_link_to_pages_that_exist() -> None:
    """Each relative link of the README and of docs/ leads to a file, and its anchor to a heading."""
    pages = [*PAGES, *(ROOT / "docs" / "reference").glob("*.md"), ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"]
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"(?:\]\(|src=\"|srcset=\")([^)\"\s]+)", page.read_text())
        if not link.startswith(("http:", "https:")) and not is_reachable(page, link)
    ]
    assert broken == []


def test_the_page_of_the_package_has_no_relative_link() -> None:
    """An index shows the long description without the repository, so a relative link or picture leads nowhere."""
    links = re.findall(r"(?:\]\(|src=\"|srcset=\")([^)\"\s]+)", PYPI.read_text())

    assert [link for link in links if not link.startswith("https:")] == []


def is_reachable(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not target.exists():
        return False
    headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if anchor else []
    return not anchor or anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


async def run_in_turn(lines: Sequence[str]) -> None:
    for line in lines:
        await until(lambda line=line: succeeds(line))  # type: ignore[misc]  # `trace` may be ahead of the worker


async def succeeds(line: str) -> bool:
    """Whether the line exits with 0, in a shell that finds the installed commands where it needs one."""
    if SIMPLE_COMMAND.fullmatch(line):
        return (await asyncio.to_thread(run_ackstream, *line.split()[1:], folder=Path.cwd())).returncode == 0
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", f'PATH="{Path(sys.executable).parent}:$PATH"; {line}'),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await shell.wait() == 0
