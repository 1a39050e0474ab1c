"""Help, version and completion are fast, and help explains each command."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import typer

from console.main import make_app
from tests.support.commands import run_command

SLOW_LIBRARIES = {"aiohttp", "alembic", "pydantic_settings", "redis", "rich", "sqlalchemy", "structlog", "uvloop"}
PRINT_MODULES = (
    "import sys; from console.__main__ import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
)
COUNT_CERTIFICATES = """
import gc, ssl
from console.lean_import import import_http_server
import_http_server()
print([len(each.get_ca_certs()) for each in gc.get_objects() if isinstance(each, ssl.SSLContext)])
print(len(ssl.create_default_context().get_ca_certs()))
"""


def commands() -> Iterator[tuple[str, ...]]:
    """Yield the words of each command."""

    def list_commands(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, command in sorted(group.commands.items()):
            yield (*words, name)
            if hasattr(command, "commands"):
                yield from list_commands(command, (*words, name))

    return list_commands(typer.main.get_command(make_app()), ())


every_command = pytest.mark.parametrize("words", list(commands()), ids=" ".join)


def environment_without_coverage() -> dict[str, str]:
    """Return the environment; coverage, if it measures this process, would import its modules into a child."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


@every_command
def test_each_command_explains_itself_with_an_example(words: tuple[str, ...]) -> None:
    """Both -h and --help describe the command and its options in 80 columns, with an example to copy."""
    outcome = run_command(*words, "--help")
    assert outcome.code == 0
    assert outcome.stdout == run_command(*words, "-h").stdout
    assert all(len(line) <= 80 for line in outcome.stdout.splitlines())
    if "Commands:" not in outcome.stdout:
        assert re.search(rf"Example:\s+ackstream\s+{words[0]}", outcome.stdout)
    options = re.findall(r"^  (-\S.*)$", outcome.stdout, re.MULTILINE)
    assert options


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [(("--help",), 350), (("--version",), 350), (("replay", "run", "-h"), 500), (("stats", "--help"), 500)],
)
def test_help_loads_no_library_that_a_command_works_with(arguments: tuple[str, ...], limit: int) -> None:
    """The number of imported modules is limited; seconds depend on the machine and are only printed."""
    started = time.perf_counter()
    command = [sys.executable, "-P", "-c", PRINT_MODULES, *arguments]
    process = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60, env=environment_without_coverage()
    )
    print(f"ackstream {' '.join(arguments)}: {time.perf_counter() - started:.3f} s")  # noqa: T201 - the measured time
    modules = set(process.stderr.split())
    assert not SLOW_LIBRARIES & modules
    assert len(modules) < limit


@pytest.mark.parametrize(
    ("module", "foreign", "limit"),
    [
        ("ingest.app", {"aiosqlite", "alembic", "argon2", "jinja2", "sqlalchemy", "typer", "worker"}, 780),
        ("worker.app", {"aiosqlite", "alembic", "argon2", "ingest", "jinja2", "sqlalchemy", "typer"}, 830),
        ("console.web.app", {"alembic", "asyncpg", "typer"}, 1310),
    ],
)
def test_a_process_loads_only_what_it_works_with(module: str, foreign: set[str], limit: int) -> None:
    """Imports are most of a start: a worker without `store` loads no database library, and ingest none at all."""
    command = [sys.executable, "-P", "-c", f"import sys, {module}; print(*sys.modules)"]
    process = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60, env=environment_without_coverage()
    )
    modules = set(process.stdout.split())
    assert not foreign & modules
    assert len(modules) < limit


@pytest.mark.parametrize(
    ("arguments", "foreign"),
    [
        (("stats",), {"aiohttp", "sqlalchemy", "alembic", "uvloop", "console.commands.serve"}),
        (("trace", "x"), {"aiohttp", "alembic", "uvloop", "console.commands.serve"}),
        # ends, because no secret is set
        (("ingest",), {"opentelemetry", "greenlet", "rich", "console.commands.stats"}),
    ],
)
def test_a_command_loads_only_what_it_works_with(arguments: tuple[str, ...], foreign: set[str]) -> None:
    """`stats` loads no database library, `trace` no HTTP library, `ingest` no rich, and none the other commands."""
    command = [sys.executable, "-P", "-c", PRINT_MODULES, *arguments, "--data", "/nonexistent"]
    environment = {"ACKSTREAM_REDIS_URL": "redis://127.0.0.1:1"}
    process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
    assert process.returncode == 1
    assert not foreign & set(process.stderr.split())


def test_aiohttp_reads_no_certificates_for_ingest(tmp_path: Path) -> None:
    """The TLS settings that aiohttp makes have no certificates; those that are made afterwards have the system's."""
    certificates = tmp_path / "trusted.pem"
    trustme.CA().cert_pem.write_to_path(certificates)
    environment = environment_without_coverage() | {"SSL_CERT_FILE": str(certificates)}

    command = [sys.executable, "-P", "-c", COUNT_CERTIFICATES]
    process = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=environment)

    assert process.stdout == "[0, 0]\n1\n"


def test_the_version_is_printed() -> None:
    """`--version` prints the version of the package."""
    outcome = run_command("--version")
    assert (outcome.code, outcome.stdout) == (0, "ackstream 0.1.0rc1\n")


def test_completion_offers_commands_and_options() -> None:
    """The shell script of `--install-completion` gets the names from the command."""
    command = [sys.executable, "-P", "-m", "console"]
    common = {"_ACKSTREAM_COMPLETE": "complete_bash", "_PYTHON _M CONSOLE_COMPLETE": "complete_bash"}
    shell = {"COMP_WORDS": "ackstream dead-letters ", "COMP_CWORD": "2"}
    process = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env={**common, **shell}, errors="replace"
    )
    assert {"list", "show", "replay", "discard"} <= set(process.stdout.split()), process


def test_an_unknown_command_is_a_usage_error() -> None:
    """An unknown command exits with 2 and is named."""
    outcome = run_command("stat")
    assert outcome.code == 2
    assert "No such command 'stat'" in outcome.stderr
