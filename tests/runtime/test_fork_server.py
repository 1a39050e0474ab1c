"""The fork server of the tests: a process that it forks ends as a new interpreter does."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.fork_server import PYTHON
from tests.support.processes import run_forked

ENDS = {
    "code": "raise SystemExit(3)",
    "words": "raise SystemExit('it failed')",
    "error": "1 / 0",
    "buffered": "print('said', end='')",
    "exit functions": "import atexit; atexit.register(print, 'last'); print('first')",
    "threads": "import threading; threading.Timer(0.1, print, ['said']).start()",
    "interrupt": "raise KeyboardInterrupt",
    "no output": "import sys; sys.stdout = None; raise SystemExit(4)",
}


@pytest.mark.parametrize("program", ENDS.values(), ids=ENDS)
def test_a_forked_process_ends_as_a_new_interpreter(program: str, tmp_path: Path) -> None:
    """Exit code, standard output and the error are the same."""
    (tmp_path / "program.py").write_text(program)
    command = (*PYTHON, str(tmp_path / "program.py"))

    expected = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    forked = run_forked(command, tmp_path, os.environ, 60.0)

    assert (forked.returncode, forked.stdout) == (expected.returncode, expected.stdout)
    assert forked.stderr.splitlines()[-1:] == expected.stderr.splitlines()[-1:]
