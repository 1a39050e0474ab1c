"""Faults of settings, secrets and handlers that `doctor` finds, each planted in an installation without any."""

import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # the PostgreSQL wheel brings it, without its types
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from console.doctor.checks.machine import judge_python
from tests.support.checkup import GROUP, Installation
from tests.support.processes import becomes
from tests.support.samples.signed import SECRET, SECRETS

OPEN: Mapping[str, str | None] = {"HOST": "127.0.0.1,0.0.0.0"}

CASES: Sequence[tuple[str, Mapping[str, str | None]]] = [
    ("settings.invalid", {"PORT": "x"}),
    ("settings.invalid", {"SIGNATURE_SECRETS": None}),
    ("settings.invalid", {"HANDLERS_FILE": "handlers.txt"}),
    ("settings.unknown", {"SIGNATURE": "required"}),
    ("settings.twice", {"SIGNATURE_SECRETS_FILE": "secrets.txt"}),
    ("settings.without-effect", {"RETENTION": "off", "RETENTION_BYTES": "99999999"}),
    ("settings.without-effect", {"SIGNATURES": "off"}),
    ("settings.without-effect", {"CONSOLE_USER_HEADER": "X-User"}),
    ("settings.contradictory", {"RETRY_BASE_SECONDS": "60", "RETRY_CAP_SECONDS": "30"}),
    ("settings.contradictory", {"PORT": "1", "ADMIN_PORT": "1"}),
    ("signatures.off", {**OPEN, "SIGNATURES": "off", "SIGNATURE_SECRETS": None}),
    ("signatures.observe", {"SIGNATURES": "observe"}),
    ("signatures.receipts", {**OPEN, "DLR_SIGNATURE": "off"}),
    ("signatures.lost", {"WRONG_SIGNATURE": "401"}),
    ("signatures.max-age", {"SIGNATURE_MAX_AGE_SECONDS": "3600"}),
    ("secrets.placeholder", {"SIGNATURE_SECRETS": "abcd1234:your-signature-secret"}),
    ("secrets.placeholder", {"SIGNATURE_SECRETS": "abcd1234:xxxxxxxxxxxxxxxxxxxxxxxx"}),
    ("secrets.blank", {"SIGNATURE_SECRETS": f'abcd1234:"{SECRET}"'}),
    ("secrets.blank", {"SIGNATURE_SECRETS": f"abcd1234:{SECRET}\\n"}),
    ("secrets.blank", {"SIGNATURE_SECRETS": f"abcd1234:{SECRET} {SECRET}"}),
    ("secrets.api-secret", {"SIGNATURE_SECRETS": "abcd1234:Abcdefgh12345678"}),
    ("secrets.short", {"SIGNATURE_SECRETS": f"{SECRETS},abcd1234:{SECRET[:12]}"}),
    ("secrets.account", {"SIGNATURE_SECRETS": f"My account:{SECRET}"}),
    ("handler.broken", {"HANDLERS": f"{GROUP},broken:handle"}),
    ("handler.broken", {"HANDLERS": f"{GROUP},exits:handle"}),
    ("forward.unsigned", {"HANDLERS": f"{GROUP},crm=forward:http://127.0.0.1:PORT/"}),
    ("forward.plain", {"HANDLERS": f"{GROUP},crm=forward:http://0.0.0.0:PORT/", "FORWARD_SECRETS": "whsec_c2VjcmV0"}),
    ("machine.open-files", {"CONNECTIONS": "999999"}),
    ("archive.unusable", {"ARCHIVE": "secrets.txt/archive"}),
    ("console.trusts-all", {"CONSOLE_USER_HEADER": "X-User", "CONSOLE_PROXIES": "10.0.0.5,::/0"}),
    ("console.plain", {"CONSOLE_HOST": "127.0.0.1,0.0.0.0"}),
]
"""The only finding, and the settings that cause it."""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[str]:
    """A port on which connections are accepted, and modules and files that the settings name."""
    (tmp_path / "broken.py").write_text("import missing_library\n")
    (tmp_path / "exits.py").write_text("import os\nos._exit(3)\n")
    (tmp_path / "secrets.txt").write_text(SECRETS)
    (tmp_path / "handlers.txt").write_text("log\n")
    with socket.create_server(("", 0)) as listener:
        yield str(listener.getsockname()[1])


async def test_a_healthy_installation_has_no_finding(healthy: Installation) -> None:
    """All checks but the self-test run, and find nothing."""
    report = await healthy.run()

    assert [finding.summary() for finding in report.findings] == []
    assert (len(report.checked), report.skipped) == (13, ["the self-test"])


@pytest.mark.parametrize(("finding", "settings"), CASES)
async def test_a_planted_fault_of_the_settings_is_found(
    healthy: Installation, port: str, finding: str, settings: Mapping[str, str | None]
) -> None:
    """It is the only finding, and none of its texts has the secret."""
    healthy.set({name: value and value.replace("PORT", port) for name, value in settings.items()})

    report = await healthy.run()

    assert [each.id for each in report.findings] == [finding]
    assert SECRET[:12] not in repr(report.summary())


async def test_traces_that_cannot_be_sent_are_found(healthy: Installation) -> None:
    """Ingest and worker would refuse to start with a protocol that this version does not have."""
    healthy.set({"TRACING": "otlp"})
    healthy.monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")

    assert await healthy.examine() == ["settings.invalid"] * 2


async def test_a_worker_that_is_not_ready_is_found(healthy: Installation) -> None:
    """Doctor asks the admin port of each role that it checks, also on an address of IPv6."""

    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=503, text="the target is away\n")

    app = web.Application()
    app.router.add_get("/ready", refuse)
    async with TestServer(app, host="::1") as admin:
        healthy.set({"ADMIN_HOST": "::1", "ADMIN_PORT": str(admin.port)})
        (finding,) = (await healthy.run(roles=["worker"])).findings

    assert finding.what == "The worker is not ready: the target is away."


async def test_a_target_that_refuses_connections_is_found(healthy: Installation) -> None:
    """Nothing listens on the port; the finding names the host and not the path, which may hold a secret."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    target = f"forward:http://127.0.0.1:{port}/token-of-the-path"
    healthy.set({"HANDLERS": f"{GROUP},crm={target}", "FORWARD_SECRETS": "whsec_c2VjcmV0"})

    report = await healthy.run()

    assert [finding.id for finding in report.findings] == ["forward.unreachable"]
    assert "token-of-the-path" not in repr(report.summary())


async def test_a_module_that_hangs_is_found_and_ended(healthy: Installation, tmp_path: Path) -> None:
    """The check ends in its time with a finding, and the process that imports the module is gone."""
    (tmp_path / "hangs.py").write_text(
        "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(99)\n"
    )
    healthy.set({"HANDLERS": f"{GROUP},hangs:handle"})

    report = await healthy.run(check_seconds=3)

    assert [finding.id for finding in report.findings] == ["check.no-answer"]
    await becomes(lambda: not psutil.pid_exists(int((tmp_path / "pid").read_text())))


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can enter: those of pytest admit one user only."""
    folder = Path(tempfile.mkdtemp(prefix="ackstream-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def test_files_that_everybody_can_read_are_found(healthy: Installation, public_folder: Path) -> None:
    """A file of secrets, .env, a header of forward, and the data folder; private folders and files are fine."""
    for name, text in (("secrets", SECRETS), ("header", "secret"), (".env", f"ACKSTREAM_SIGNATURE_SECRETS={SECRETS}")):
        (public_folder / name).write_text(text)
        (public_folder / name).chmod(0o644)
    (public_folder / "data" / "private").mkdir(parents=True, mode=0o700)
    (public_folder / "data" / "private" / "x").write_text("")
    (public_folder / "data").chmod(0o755)
    (public_folder / "data" / "ackstream.db").write_text("")
    healthy.monkeypatch.chdir(public_folder)
    forward = f"crm=forward:http://127.0.0.1:1/#header.X-Key=@{public_folder / 'header'}"
    healthy.set(
        {
            "DATA": str(public_folder / "data"),
            "SIGNATURE_SECRETS": None,
            "SIGNATURE_SECRETS_FILE": str(public_folder / "secrets"),
            "HANDLERS": f"{GROUP},{forward}",
        }
    )

    def names(report: list[str]) -> list[str]:
        return [name for name in report if name.startswith("files.")]

    assert names(await healthy.examine()) == ["files.data-exposed", *["files.secret-exposed"] * 3]
    for path in ("secrets", "header", ".env", "data"):
        (public_folder / path).chmod(0o700)
    assert names(await healthy.examine()) == []


async def test_a_package_of_another_version_is_found(healthy: Installation, tmp_path: Path) -> None:
    """The metadata of a package that comes first on the path says that it is too old."""
    (tmp_path / "redis-4.0.dist-info").mkdir()
    (tmp_path / "redis-4.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: redis\nVersion: 4.0\n")
    healthy.monkeypatch.syspath_prepend(tmp_path)

    (finding,) = (await healthy.run()).findings

    assert finding.id == "python.package"
    assert finding.fix == "pip install 'redis<9,>=8'"


def test_a_python_without_fixes_is_found() -> None:
    """The table has its last day. Before that day, and for a version that the table lacks, doctor finds nothing."""
    found = [
        list(judge_python(*each)) for each in (("3.11.9", "2027-11-01"), ("3.11.9", "2027-10-31"), ("3.99.0", "2060"))
    ]

    assert [len(findings) for findings in found] == [1, 0, 0]
