"""The page of settings shows values with their sources, and no secret."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from console.up.valkey import find_free_port
from console.web.access.roles import Role
from console.web.pages.run.settings_replies import SettingsReply
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, run_console
from tests.support.processes import ackstream

CANARY = "hunter2canary"
BASE64_CANARY = "d2hzZWMtY2FuYXJ5LWh1bnRlcjI="


@pytest.fixture
def _secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each secret setting has a canary, in the environment or in a file."""
    (tmp_path / "database").write_text(f"postgresql://user:{CANARY}@127.0.0.1:9/none?password={CANARY}")
    monkeypatch.setenv("ACKSTREAM_SIGNATURE_SECRETS", f"key1:{CANARY},key2:{CANARY}")
    monkeypatch.setenv("ACKSTREAM_FORWARD_SECRETS", f"whsec_{BASE64_CANARY}")
    monkeypatch.setenv("ACKSTREAM_HANDLERS", f"store,crm=forward:https://host/{CANARY}#header.X-Key={CANARY}")
    monkeypatch.setenv("ACKSTREAM_DATABASE_URL_FILE", str(tmp_path / "database"))
    monkeypatch.setenv("ACKSTREAM_RETENTION", "3d")
    monkeypatch.setenv("ACKSTREAM_RETENSION", CANARY)


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard, _secrets: None) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


async def test_no_answer_has_a_secret(console: ConsoleServer, valkey_url: str) -> None:
    """Neither page nor JSON shows a value of a secret setting; they show how many there are."""
    async with console.visit(Role.ADMIN) as admin:
        answers = [await admin.get("/settings"), await admin.get("/api/v1/settings")]

    for answer in answers:
        assert answer.status == 200
        for canary in (CANARY, BASE64_CANARY, urlsplit(valkey_url).password):
            assert canary is not None
            assert canary not in answer.text
    assert "set, 2 values" in answers[0].text


async def test_settings_have_sources_and_faults(console: ConsoleServer) -> None:
    """The twin has each process with its settings, the variables without effect, and the versions."""
    async with console.visit(Role.VIEWER) as person:
        data = (await person.get("/api/v1/settings")).json()
        page = (await person.get("/settings")).text

    SettingsReply.model_validate(data)
    processes = {process["process"]: {line["name"]: line for line in process["lines"]} for process in data["settings"]}
    assert set(processes) == {"console", "ingest", "worker"}
    assert processes["worker"]["ACKSTREAM_RETENTION"] == {
        **processes["worker"]["ACKSTREAM_RETENTION"],
        "value": "3d",
        "source": "environment",
        "secret": False,
    }
    assert processes["worker"]["ACKSTREAM_DATABASE_URL"]["source"].startswith("the file of")
    assert processes["console"]["ACKSTREAM_CONSOLE_PORT"]["source"] == "a flag of the command"
    (unknown,) = data["without_effect"]
    assert (unknown["name"], unknown["advice"]) == ("ACKSTREAM_RETENSION", "did you mean ACKSTREAM_RETENTION?")
    assert "1 setting has no effect." in page
    assert data["redis"]["version"].startswith("Valkey")
    assert data["database"]["revision"] == data["database"]["needs"]


async def test_running_processes_report_their_own_settings(tmp_path: Path, valkey_url: str, shard: Shard) -> None:
    """Values of a worker elsewhere and its handlers come from its admin port, without secrets; ingest is not known."""
    port = find_free_port()
    settings = {"redis_url": valkey_url, "stream": shard.name, "retry_attempts": "7", "admin_port": str(port)}
    handlers = ("--handler", f"crm=forward:https://127.0.0.1:9/{CANARY}#header.X-Key={CANARY}", "--handler", "log")
    with ackstream("worker", *handlers, folder=tmp_path, **settings) as worker:
        await worker.is_ready(port)
        url = f"http://127.0.0.1:{port}"
        async with (
            run_console(tmp_path, valkey_url, shard.name, console_scrape=url) as console,
            console.visit() as person,
        ):
            data = (await person.get("/api/v1/settings")).json()
            page = (await person.get("/settings")).text
            groups = (await person.get("/api/v1/groups")).json()["groups"]
            async with person.http.get(f"{url}/settings") as report:
                reported = await report.text()

    SettingsReply.model_validate(data)
    running = {process["process"]: process for process in data["settings"]}
    lines = {line["name"]: line for line in running["worker"]["lines"]}
    assert (running["worker"]["addresses"], running["ingest"]["addresses"]) == ([f"127.0.0.1:{port}"], [])
    assert (lines["ACKSTREAM_RETRY_ATTEMPTS"]["value"], lines["ACKSTREAM_HANDLERS"]["value"]) == ("7", "set, 2 values")
    assert "no running ingest reports its settings" in page
    assert {row["group"]: row["handler"] for row in groups} == {"crm": "forward:127.0.0.1", "log": "log"}
    assert CANARY not in page + reported


async def test_a_database_that_is_away_is_named(tmp_path: Path, valkey_url: str, shard: Shard) -> None:
    """The page shows everything else."""
    url = "postgresql://user:hunter2@127.0.0.1:9/none"
    async with run_console(tmp_path, valkey_url, shard.name, database_url=url) as console, console.visit() as person:
        answer = await person.get("/api/v1/settings")

    assert answer.status == 200
    assert answer.json()["database"]["away"]
    assert answer.json()["redis"]["away"] is None
    assert "hunter2" not in answer.text
