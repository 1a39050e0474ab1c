"""Version 0.1.0rc1, taken from the history of the repository, with the libraries of today."""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from stream.settings import child_environment
from tests.support.processes import ACKSTREAM, Process, start_process

ROOT = Path(__file__).parents[3]
OLD = "0.1.0rc1"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of Ackstream whose commands a test can run."""

    name: str
    folder: Path | None = None
    """Its code; None for the present version."""

    def start(self, folder: Path, *arguments: str, **settings: str) -> Process:
        """Start `ackstream ARGUMENTS` of this version; the caller has to end it."""
        environment: Mapping[str, str] = child_environment(**{"log_format": "json", **settings})
        command: tuple[str, ...] = (*ACKSTREAM, *arguments)
        if self.folder is not None:
            environment = {**environment, "PYTHONPATH": str(self.folder)}
            command = (sys.executable, "-m", "console", *arguments)
        return start_process(command, folder, f"{self.name}-{arguments[0]}", environment)


def extract_old_version(folder: Path) -> Version:
    """Write the code of OLD to the folder; skip the test if the history does not reach back to it."""
    found = _run_git("log", "--format=%H", f"-S## [{OLD}] - ", "--", "CHANGELOG.md").split()
    if not found:
        pytest.skip(f"the history of this clone does not have version {OLD}: git fetch --unshallow")
    archive = subprocess.run(["git", "archive", found[-1].decode()], cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S607 - git stands elsewhere on each system
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.11.4 has none
        files.extractall(folder)  # noqa: S202 - git has made it from this repository
    return Version(OLD, folder)


def _run_git(*arguments: str) -> bytes:
    """Return what git prints; nothing outside of a repository."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, env=environment, check=False)  # noqa: S607 - as above
    return result.stdout
