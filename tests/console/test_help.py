"""Help, version and completion answer at once and teach."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from console.main import app
from tests.support.commands import run_command

SLOW_LIBRARIES = {"aiohttp", "alembic", "pydantic_settings", "redis", "rich", "sqlalchemy", "structlog", "uvloop"}
LOADED = "import sys; from console.__main__ import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"


def commands() -> Iterator[tuple[str, ...]]:
    """The words of each command."""

    def below(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, command in sorted(group.commands.items()):
            yield (*words, name)
            if hasattr(command, "commands"):
                yield from below(command, (*words, name))

    return below(typer.main.get_command(app), ())


every_command = pytest.mark.parametrize("words", list(commands()), ids=" ".join)


@every_command
def test_each_command_explains_itself_with_an_example(words: tuple[str, ...]) -> None:
    """Both -h and --help say what it does, describe each option in 80 columns, and give an example to copy."""
    outcome = run_command(*words, "--help")
    assert outcome.code == 0
    assert outcome.stdout == run_command(*words, "-h").stdout
    assert all(len(line) <= 80 for line in outcome.stdout.splitlines())
    if "Commands:" not in outcome.stdout:
        assert re.search(rf"Example:\s+ackstream\s+{words[0]}", outcome.stdout)
    options = re.findall(r"^  (-\S.*)$", outcome.stdout, re.MULTILINE)
    assert options


@pytest.mark.parametrize(
    ("arguments", "most"),
    [(("--help",), 350), (("--version",), 350), (("replay", "run", "-h"), 500), (("stats", "--help"), 500)],
)
def test_help_loads_no_library_that_a_command_works_with(arguments: tuple[str, ...], most: int) -> None:
    """The imports are counted, for seconds depend on the machine; the time is printed."""
    began = time.perf_counter()
    command = [sys.executable, "-P", "-c", LOADED, *arguments]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    print(f"ackstream {' '.join(arguments)}: {time.perf_counter() - began:.3f} s")  # noqa: T201 - for whoever measures
    modules = set(ended.stderr.split())
    assert not SLOW_LIBRARIES & modules
    assert len(modules) < most


@pytest.mark.parametrize(
    ("arguments", "foreign"),
    [(("stats",), {"aiohttp", "sqlalchemy", "alembic", "uvloop"}), (("trace", "x"), {"aiohttp", "alembic", "uvloop"})],
)
def test_a_command_loads_only_what_it_works_with(arguments: tuple[str, ...], foreign: set[str]) -> None:
    """`stats` needs no database and `trace` no HTTP."""
    command = [sys.executable, "-P", "-c", LOADED, *arguments, "--data", "/nonexistent"]
    environment = {"ACKSTREAM_REDIS_URL": "redis://127.0.0.1:1"}
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
    assert ended.returncode == 1
    assert not foreign & set(ended.stderr.split())


def test_the_version_is_printed() -> None:
    """As the package has it."""
    outcome = run_command("--version")
    assert (outcome.code, outcome.stdout) == (0, "ackstream 0.1.0rc1\n")


def test_completion_offers_commands_and_options() -> None:
    """What `--install-completion` installs asks the command itself."""
    command = [sys.executable, "-P", "-m", "console"]
    common = {"_ACKSTREAM_COMPLETE": "complete_bash", "_PYTHON _M CONSOLE_COMPLETE": "complete_bash"}
    shell = {"COMP_WORDS": "ackstream dead-letters ", "COMP_CWORD": "2"}
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env={**common, **shell}, errors="replace"
    )
    assert {"list", "show", "replay", "discard"} <= set(ended.stdout.split()), ended


def test_an_unknown_command_is_told_with_its_help() -> None:
    """Exit code 2, as for any wrong use."""
    outcome = run_command("stat")
    assert outcome.code == 2
    assert "No such command 'stat'" in outcome.stderr
