import asyncio
import re
import sys
from pathlib import Path

import pytest

from console.up.valkey import free_port
from ingest.settings import IngestSettings
from tests.events import body, event
from tests.serving import answers
from tests.waiting import until
from worker import Discard, Retry
from worker.handlers.function import load
from worker.settings import WorkerSettings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

# These run until they are stopped, or would run these very tests: each has a test of its own.
SERVERS = {
    "make run": "tests/test_up.py",
    "docker compose up --build --scale worker=4": "tests/test_compose.py",
    "ackstream ingest": "tests/test_crash.py",
    "ackstream worker": "tests/test_crash.py",
    "ackstream worker --handler store": "tests/test_crash.py",
    "ackstream worker --handler orders:on_status": "tests/test_handlers.py",
    "make test": ".ci/run",
    "make lint": ".ci/run",
    "make bench": "Makefile",
}


def commands() -> list[str]:
    return [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


def test_every_setting_is_in_the_readme() -> None:
    """The table names each setting, and none that does not exist."""
    known = {
        f"ACKSTREAM_{name.upper()}" for settings in (IngestSettings, WorkerSettings) for name in settings.model_fields
    }
    named = set(re.findall(r"ACKSTREAM_[A-Z_]+", README.partition("## Settings")[2].partition("## ")[0]))
    assert named == known | {
        f"ACKSTREAM_{name.upper()}_FILE" for name in IngestSettings.secrets | WorkerSettings.secrets
    }


async def test_the_handler_in_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there, in a file of the working folder."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "orders.py").write_text(code)
    monkeypatch.setattr("sys.path", sys.path.copy())
    function, takes_lists = load("orders:on_status")
    assert not takes_lists
    await function(event(body(client_ref="order-7")))
    with pytest.raises(Discard, match="no order"):
        await function(event(body()))
    with pytest.raises(Retry):
        await function(event(body(client_ref="order-7", status="submitted")))
    del sys.modules["orders"]


@pytest.mark.parametrize("server", SERVERS)
def test_commands_that_run_elsewhere_stand_in_the_readme(server: str) -> None:
    """The list of commands that are not run here holds none that the README does not show, and their tests exist."""
    assert server in commands()
    assert (ROOT / SERVERS[server]).exists()


async def test_every_other_command_of_the_readme_works() -> None:
    """Beside a running `up`, each line does what it should: it exits with 0."""
    port, admin_port = free_port(), free_port()
    up = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "console", "up", "--port", str(port), "--admin-port", str(admin_port)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await until(lambda: answers(f"http://127.0.0.1:{admin_port}/ready", 200))
        shown = [line for line in commands() if line not in SERVERS]
        assert len(shown) >= 6
        for line in shown:
            here = line.replace("127.0.0.1:3000", f"127.0.0.1:{port}")
            await until(lambda here=here: succeeds(here))  # type: ignore[misc]  # `trace` may be ahead of the worker
    finally:
        up.terminate()
        await up.wait()


async def succeeds(line: str) -> bool:
    """Whether the line exits with 0 in a shell that finds the installed commands."""
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", f'PATH="{Path(sys.executable).parent}:$PATH"; {line}'),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await shell.wait() == 0
