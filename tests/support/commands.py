"""Running `ackstream …` in this process, through the same `main` that the command runs."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import orjson

from console.__main__ import main


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output, which must be JSON and nothing else."""
        assert self.code == 0, self.stderr
        return orjson.loads(self.stdout)

    @property
    def error(self) -> str:
        """The sentence of a command that failed, without a traceback."""
        assert self.code == 1, (self.code, self.stdout, self.stderr)
        assert "Traceback" not in self.stderr
        return self.stderr


def run_command(*arguments: str, answer: str = "", columns: int = 80) -> CommandResult:
    """Run one command to its end, on a terminal of this width, with this standard input."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        redirect_stdout(stdout),
        redirect_stderr(stderr),
        patch.object(sys, "argv", ["ackstream", *arguments]),
        patch.object(sys, "stdin", io.StringIO(answer)),
        patch.dict("os.environ", {"COLUMNS": str(columns)}),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                stderr.write(f"{end.code}\n")
    return CommandResult(code, stdout.getvalue(), stderr.getvalue())
