"""The units of `deploy/systemd`."""

import asyncio
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from console.up.valkey import find_free_port
from stream.keys import Shard
from tests.support.http.load import JSON, make_delivered
from tests.support.processes import ACKSTREAM, Process, becomes, start_process
from tests.support.samples.signed import SECRETS, bearer

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
PROGRAM = "/opt/ackstream/bin/ackstream"
MOST_EXPOSED = 17
"""Ten times the exposure level that systemd-analyze may find: 0 is safe, 100 unsafe."""


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_valid_and_hardened(name: str, tmp_path: Path) -> None:
    """Systemd reads each unit without a message, and rates its exposure as OK."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    unit = tmp_path / name.replace("@", "@3000")
    unit.write_text((FOLDER / name).read_text().replace(PROGRAM, sys.executable))
    check = ("systemd-analyze", "verify", "--man=no", str(unit))
    rate = ("systemd-analyze", "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", str(unit))

    for command in (check, rate):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (0, ""), result.stdout


def find_instance() -> str:
    """Return a free port for webhooks whose admin port, with a 1 before it, is free too."""
    for port in range(2000, 5536):
        with suppress(OSError), socket.socket() as webhooks, socket.socket() as admin:
            webhooks.bind(("127.0.0.1", port))
            admin.bind(("127.0.0.1", int(f"1{port}")))
            return str(port)
    pytest.fail("no free port")


def read_settings(unit: str, instance: str) -> tuple[str, dict[str, str]]:
    """Return the command and the environment of a unit for this instance."""
    lines = (FOLDER / unit).read_text().replace("%i", instance).splitlines()
    values: dict[str, str] = {}
    for line in [*lines, *(FOLDER / "ackstream.env").read_text().splitlines()]:
        if line.startswith(("Environment=", "ACKSTREAM_")):
            values |= dict(part.split("=", 1) for part in line.removeprefix("Environment=").split())
    (command,) = (line for line in lines if line.startswith("ExecStart="))
    return command.removeprefix(f"ExecStart={PROGRAM} "), values


@contextmanager
def run_unit(unit: str, folder: Path, changes: Mapping[str, str], instance: str = "") -> Iterator[tuple[Process, str]]:
    """Run the command of a unit with its settings and the test's servers; yield it with its admin port."""
    command, settings = read_settings(unit, instance)
    environment = {"PATH": "/usr/bin:/bin", **settings, **changes}
    for name, value in settings.items():
        if name.endswith("_FILE"):
            environment[name] = str(folder / Path(value).name)
    process = start_process((*ACKSTREAM, command), folder, command, environment)
    try:
        yield process, environment.get("ACKSTREAM_ADMIN_PORT", "")
    finally:
        process.end()


async def test_the_units_run_all_of_ackstream(
    tmp_path: Path, valkey_url: str, shard: Shard, postgresql_url: str
) -> None:
    """With the settings and secret files of the units a signed webhook is stored, and no setting is unknown."""
    for name, text in (("redis-url", valkey_url), ("database-url", postgresql_url), ("signature-secrets", SECRETS)):
        (tmp_path / name).write_text(f"{text}\n")
    changes = {
        "ACKSTREAM_DATA": str(tmp_path / "data"),
        "ACKSTREAM_STREAM": shard.name,
        "ACKSTREAM_CONSOLE_PORT": "0",
    }
    instance = find_instance()
    with run_unit("ackstream-migrate.service", tmp_path, changes) as (migrate, _):
        assert await migrate.wait_for_end(60) == 0, migrate.said
    with (
        run_unit("ackstream-ingest@.service", tmp_path, changes, instance) as (ingest, ingest_admin),
        run_unit("ackstream-worker@.service", tmp_path, changes, str(find_free_port())) as (worker, worker_admin),
        run_unit("ackstream-console.service", tmp_path, changes | {"ACKSTREAM_ADMIN_PORT": "0"}) as (console, _),
    ):
        assert ingest_admin == f"1{instance}"
        await asyncio.gather(ingest.is_ready(int(ingest_admin)), worker.is_ready(int(worker_admin)))
        body = make_delivered("m-1")
        async with aiohttp.ClientSession(headers=JSON) as http:
            url = f"http://127.0.0.1:{instance}/webhooks/message-status"
            async with http.post(url, data=body, headers={"Authorization": bearer(body)}) as answer:
                assert answer.status == 200
        await becomes(lambda: "m-1" in worker.said)
        await console.has_logged("console.started")
        for process in (ingest, worker, console):
            assert process.read_log("settings.unknown") == []


def test_the_console_asks_the_processes_of_the_page() -> None:
    """The console's settings name the admin ports of the instances that the page starts."""
    page = (FOLDER.parents[1] / "docs" / "systemd.md").read_text()
    _, settings = read_settings("ackstream-console.service", "")
    started = re.search(r"enable --now (.*)", page)
    assert started is not None
    ingests, workers = (re.findall(rf"ackstream-{kind}@(\d+)", started[1]) for kind in ("ingest", "worker"))

    admin_ports = [*(f"1{port}" for port in ingests), *workers]

    assert settings["ACKSTREAM_CONSOLE_SCRAPE"] == ",".join(f"http://127.0.0.1:{port}" for port in admin_ports)
