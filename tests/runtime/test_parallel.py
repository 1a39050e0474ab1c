"""`pytest --processes N` reports what pytest reports, and loses no test."""

import subprocess
import sys
from pathlib import Path

import pytest

PYTEST = (sys.executable, "-m", "pytest", "-q", "-rA", "-p", "tests.parallel")
ALL = """
import os
import pytest

seen = []

@pytest.fixture(scope="session")
def server():
    yield
    print("stopped in", os.getpid())

@pytest.fixture
def broken(server):
    raise OSError

def test_error(broken): pass
def test_skipped(): pytest.skip("for a reason")
def test_failed(tmp_path): assert str(tmp_path) == 1
@pytest.mark.xfail
def test_expected(): raise ValueError
@pytest.mark.parametrize("number", range(20))
def test_passed(number, server, tmp_path): print(number)
@pytest.mark.one_process("order")
@pytest.mark.parametrize("number", range(20))
def test_in_order(number):
    assert seen == list(range(number))
    seen.append(number)
"""
"""Tests of every result; those of one mark pass in their order and in one process only."""
DEADLY = """
import os
import pytest

@pytest.mark.parametrize("number", range(20))
def test_one(number): assert number != 7 or os._exit(3)
"""
STOPPED = """
import signal
import time
import pytest

@pytest.fixture(scope="session", autouse=True)
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    yield
    (folder / "stopped").touch()

@pytest.mark.parametrize("number", range(9))
def test_one(number, tmp_path_factory):
    if number:
        signal.pause()
    while len(list(tmp_path_factory.getbasetemp().glob("server?"))) < 3:
        time.sleep(0.01)
    assert number
"""
"""The first test fails once all three processes have started; the others never end."""


def run_tests(folder: Path, text: str, *options: str) -> tuple[int, list[str]]:
    """Return the exit code and the results, in order of their names, of a run of these tests."""
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = one_process(name): in one process\n")
    command = (*PYTEST, f"--basetemp={folder / 'all'}", *options)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    results = ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL")
    return done.returncode, sorted(line for line in done.stdout.splitlines() if line.startswith(results))


def test_the_results_are_those_of_one_process(tmp_path: Path) -> None:
    """Passed, failed, skipped and broken tests are reported as without the option."""
    expected = run_tests(tmp_path, ALL)
    result = run_tests(tmp_path, ALL, "--processes", "3")

    assert result == expected
    assert len(result[1]) == 44


@pytest.mark.parametrize("processes", ["1", "2"])
def test_only_the_test_that_ends_its_process_fails(tmp_path: Path, processes: str) -> None:
    """Other processes run the tests that are left, even those that this process had taken."""
    code, results = run_tests(tmp_path, DEADLY, "--processes", processes)

    assert code == 1
    assert "FAILED test_it.py::test_one[7] - the process that ran the test has ended with 3" in results
    assert len(results) == 20


def test_after_the_first_failure_all_processes_stop(tmp_path: Path) -> None:
    """With `-x` they are interrupted, and each ends what its fixtures have started."""
    code, results = run_tests(tmp_path, STOPPED, "--processes", "3", "-x")

    assert code == 1
    assert "FAILED test_it.py::test_one[0] - assert 0" in results
    assert len(list(tmp_path.glob("all/server?/stopped"))) == 3
