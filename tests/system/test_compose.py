"""docker-compose.yml, built and run for real: one project for the whole module."""

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from console.simulate.plan import plan
from console.simulate.sender import send
from tests.support.http.load import open_load
from tests.support.samples.predicted import predict_statuses
from tests.support.waiting import until

# One group, so that a run over several processes brings up one project and not one in each.
pytestmark = [pytest.mark.containers, pytest.mark.one_process("compose")]

ROOT = Path(__file__).parents[2]
WORKERS = 3
BUILD_SECONDS = 600.0
COMMAND_SECONDS = 120.0
HEALTHY_SECONDS = 90.0
STORED_SECONDS = 90.0
PAUSE_SECONDS = 0.05  # of each sender: 150 messages a second, however long the compose tool takes

Container = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Project:
    """One compose project: its own name, ports, volumes, images and password."""

    command: tuple[str, ...]
    name: str
    port: int
    admin_port: int
    console_port: int

    @property
    def url(self) -> str:
        """Where webhooks go."""
        return f"http://127.0.0.1:{self.port}/webhooks/message-status"

    def compose(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> str:
        """Run ``docker compose ARGUMENTS`` and return its output; fails the test with all it said."""
        settings = {
            "ACKSTREAM_PORT": str(self.port),
            "ACKSTREAM_ADMIN_PORT": str(self.admin_port),
            "ACKSTREAM_CONSOLE_PORT": str(self.console_port),
            "POSTGRES_PASSWORD": self.name,
        }
        command = (*self.command, "--file", "docker-compose.yml", "--project-name", self.name, *arguments)
        return _run(*command, seconds=seconds, environment=os.environ | settings)

    def containers(self, *services: str) -> list[Container]:
        """Inspect the containers of these services; of all, if none is named. Stopped ones too."""
        mine = f"label=com.docker.compose.project={self.name}"
        ids = _run("docker", "ps", "--all", "--quiet", "--filter", mine).split()
        containers: list[Container] = json.loads(_run("docker", "inspect", *ids)) if ids else []
        return [container for container in containers if not services or _service(container) in services]

    def read_counter(self, metric: str) -> float:
        """Return what ingest has counted, all labels together."""
        with urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return sum(sample.value for family in families for sample in family.samples if sample.name == metric)

    def statuses(self) -> dict[str, str]:
        """Return the status of every message in PostgreSQL."""
        (postgres,) = self.containers("postgres")
        psql = ("psql", "--username=ackstream", "--dbname=ackstream", "--tuples-only", "--no-align")
        select = "--command=SELECT message_uuid, status FROM messages"
        lines = _run("docker", "exec", postgres["Id"], *psql, select).splitlines()
        return dict(line.rsplit("|", 1) for line in lines)


@pytest.fixture(scope="module")
def compose_command() -> tuple[str, ...]:
    """Return the compose tool of this machine: the plugin, else the program."""
    if shutil.which("docker") is None or _fails("docker", "info"):
        pytest.skip("no container engine answers (`docker info`)")
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]) is not None and not _fails(*command, "version"):
            return command
    pytest.skip("neither `docker compose` nor `docker-compose` is installed")


@pytest.fixture(scope="module")
def project(compose_command: tuple[str, ...]) -> Iterator[Project]:
    """Build and start the project as the README says, with three workers; at the end remove all of it."""
    project = Project(compose_command, f"ackstream-test-{secrets.token_hex(4)}", *_free_ports(3))
    try:
        project.compose("up", "--build", "--detach", "--scale", f"worker={WORKERS}", seconds=BUILD_SECONDS)
        yield project
    finally:
        project.compose("down", "--timeout", "0", "--volumes", "--remove-orphans", "--rmi", "local")


def test_the_file_is_valid(compose_command: tuple[str, ...]) -> None:
    """The compose tool takes the file without a complaint."""
    assert _run(*compose_command, "--file", "docker-compose.yml", "config", "--quiet") == ""


def test_all_services_become_healthy(project: Project) -> None:
    """One ``up`` is enough: the tables are made first, then every service reports that it is ready."""
    _until_healthy(project)
    (migrate,) = project.containers("migrate")
    assert migrate["State"]["Status"] == "exited"
    assert migrate["State"]["ExitCode"] == 0
    assert sorted(map(_service, project.containers())) == [
        "console",
        "ingest",
        "migrate",
        "postgres",
        "redis",
        *["worker"] * WORKERS,
    ]


async def test_every_simulated_message_reaches_the_database(project: Project) -> None:
    """2,000 messages, with repetitions and in no order: each is in PostgreSQL with the status that it must have."""
    webhooks = list(plan(2000, seed=1, start=datetime(2026, 2, 3, tzinfo=UTC), duplicates=0.05, shuffle=True))
    report = await send(webhooks, project.url, rate=None, progress=lambda _: None)
    assert report.answered == {"200": len(webhooks)}
    _until_stored(project, predict_statuses(webhooks))


async def test_restarting_redis_under_load_loses_nothing_that_was_answered_200(project: Project) -> None:
    """The database stands still, so all rests on Redis and the spool; everything is answered 200, and is stored."""
    (postgres,) = project.containers("postgres")
    _run("docker", "pause", postgres["Id"])
    try:
        async with open_load(project.url, PAUSE_SECONDS) as load:
            await load.keeps(300)
            await asyncio.to_thread(project.compose, "restart", "redis")
            await load.keeps(300)
    finally:
        _run("docker", "unpause", postgres["Id"])
    assert project.read_counter("ackstream_spooled_entries_total") > 0, (
        "the restart was not felt: the load proves nothing"
    )
    assert load.refused == 0
    _until_stored(project, dict.fromkeys(load.accepted_ids, "delivered"))


def test_processes_have_no_privileges(project: Project) -> None:
    """Every process 1 is an ordinary user without capabilities, on a root file system that is read-only."""
    for container in project.containers():
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], container["Name"]
        assert not host["Privileged"], container["Name"]
        assert host["CapDrop"] == ["ALL"], container["Name"]
        assert "no-new-privileges:true" in host["SecurityOpt"], container["Name"]
        if container["State"]["Running"]:
            process = _process_1(container)
            assert "0" not in process["Uid"].split(), container["Name"]
            assert int(process["CapEff"], 16) == 0, container["Name"]
            assert process["NoNewPrivs"] == "1", container["Name"]
    for container in project.containers("ingest", "worker", "console", "migrate"):
        assert container["Config"]["User"] == "10001:10001"
        assert not container["HostConfig"]["CapAdd"]


def test_only_ingest_and_console_are_published_and_only_to_this_machine(project: Project) -> None:
    """No other machine reaches anything; other programs of this one reach ingest and the console only."""
    published = {
        (_service(container), binding["HostIp"], binding["HostPort"])
        for container in project.containers()
        for bindings in (container["HostConfig"]["PortBindings"] or {}).values()
        for binding in bindings
    }
    ports = {"ingest": (project.port, project.admin_port), "console": (project.console_port,)}
    assert published == {(name, "127.0.0.1", str(port)) for name, numbers in ports.items() for port in numbers}


async def test_the_console_asks_every_process(project: Project) -> None:
    """A sign-in link of the container opens the Overview, which shows ingest and all workers."""
    link = project.compose("exec", "-T", "console", "ackstream", "console", "link").split()[-1]
    url, _, secret = link.partition("/sign-in?link=")
    base = f"http://127.0.0.1:{project.console_port}"
    assert url.startswith("http://")
    headers = {"Origin": base, "Sec-Fetch-Site": "same-origin"}
    async with aiohttp.ClientSession(base, cookie_jar=aiohttp.CookieJar(unsafe=True), headers=headers) as http:
        async with http.post("/sign-in", data={"link": secret}, allow_redirects=False) as answer:
            assert answer.status == 303

        async def sees_all() -> bool:
            async with http.get("/api/v1/overview") as answer:
                overview = await answer.json()
            workers = {row["name"]: row["workers"] for row in overview["groups"]}
            return bool(overview["flow"]["ingest"]["up"] == 1 and workers.get("store") == WORKERS)

        await until(sees_all)


async def test_stop_ends_every_process_in_good_order(project: Project) -> None:
    """``stop`` under load ends each process by itself within its grace time; after ``start`` nothing is missing."""
    async with open_load(project.url, PAUSE_SECONDS) as load:
        await load.keeps(300)
        await asyncio.to_thread(project.compose, "stop")
    ended = {container["Name"]: container["State"]["ExitCode"] for container in project.containers()}
    assert ended == dict.fromkeys(ended, 0)
    project.compose("start")
    _until_healthy(project)
    _until_stored(project, dict.fromkeys(load.accepted_ids, "delivered"))


def _until_healthy(project: Project) -> None:
    _until(lambda: not _unhealthy(project), HEALTHY_SECONDS, lambda: f"not healthy: {_unhealthy(project)}")


def _until_stored(project: Project, statuses: dict[str, str]) -> None:
    """Wait until every message has its wanted status in PostgreSQL."""

    def wrong() -> list[str]:
        stored = project.statuses()
        return [
            f"{id_} is {stored.get(id_)}, not {status}" for id_, status in statuses.items() if stored.get(id_) != status
        ]

    def why_not() -> str:
        faults = wrong()
        return f"{len(faults)} of {len(statuses)} messages are wrong: {faults[:5]}"

    _until(lambda: not wrong(), STORED_SECONDS, why_not)


def _until(true: Callable[[], bool], seconds: float, why_not: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s: {why_not()}")
        time.sleep(0.5)


def _unhealthy(project: Project) -> dict[str, str]:
    lasting = project.containers("ingest", "worker", "redis", "postgres")
    states = {container["Name"]: container["State"]["Health"]["Status"] for container in lasting}
    return {name: state for name, state in states.items() if state != "healthy"}


def _process_1(container: Container) -> dict[str, str]:
    status = _run("docker", "exec", container["Id"], "cat", "/proc/1/status")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in status.splitlines())}


def _service(container: Container) -> str:
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def _free_ports(count: int) -> list[int]:
    with ExitStack() as open_until_all_are_known:
        sockets = [open_until_all_are_known.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(listening.getsockname()[1]) for listening in sockets]


def _fails(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode != 0


def _run(*command: str, seconds: float = COMMAND_SECONDS, environment: dict[str, str] | None = None) -> str:
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert result.returncode == 0, f"{' '.join(command)}:\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout
