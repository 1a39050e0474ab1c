"""Runs the outage scenario of the bench, whose new interpreters are forks instead: `forked_outage.py ARGUMENTS`."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self

from bench.rig.processes import program
from bench.scenarios import outage
from tests.support.fork_server import PYTHON, Forked, fork_with
from tests.support.processes import ACKSTREAM

EXECUTE = subprocess.Popen
STARTS: Mapping[tuple[str, ...], tuple[str, ...]] = {(program("ackstream"),): ACKSTREAM, (sys.executable,): PYTHON}
"""How the bench starts an interpreter, and what the fork server runs instead."""
NAMES = ("stdin", "stdout", "stderr")


class ForkedPopen(Forked):
    """A forked process, with the part of `subprocess.Popen`'s interface that the bench uses. It keeps our cores."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str], **outer: Any) -> None:
        self.args = command
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        with ExitStack() as stack:
            files = {number: self._open(stack, number, outer.get(name)) for number, name in enumerate(NAMES)}
            forked = fork_with(command, cwd, env, files)
        super().__init__(forked.pid, forked.server)
        os.sched_setaffinity(self.pid, os.sched_getaffinity(0))

    def _open(self, stack: ExitStack, number: int, outer: Any) -> int:
        """Return the file that becomes this standard stream of the process, open until the stack ends."""
        if outer == subprocess.PIPE:
            reading, writing = os.pipe()
            theirs, ours = (reading, writing) if number == 0 else (writing, reading)
            setattr(self, NAMES[number], os.fdopen(ours, "wb" if number == 0 else "rb"))
            stack.callback(os.close, theirs)
            return theirs
        if outer == subprocess.DEVNULL:
            return stack.enter_context(Path(os.devnull).open("r+b")).fileno()
        return number if outer is None else int(outer.fileno())

    def communicate(self, _input: None, timeout: float) -> tuple[None, None]:
        """Wait for its end."""
        self.wait(timeout)
        return None, None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


def start(command: Sequence[str], **options: Any) -> Any:
    """Fork what would be a new interpreter, and start anything else as ever."""
    for words, instead in STARTS.items():
        if tuple(command[: len(words)]) == words:
            return ForkedPopen((*instead, *command[len(words) :]), **options)
    return EXECUTE(command, **options)


if __name__ == "__main__":
    subprocess.Popen = start  # type: ignore[assignment,misc]
    outage.main()
