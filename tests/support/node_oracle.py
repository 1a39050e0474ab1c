"""The provider's own libraries for Node, asked for their verdict: tests/oracle holds what is installed and run."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ORACLE = Path(__file__).parents[1] / "oracle"
INSTALL_SECONDS = 180.0
ANSWER_SECONDS = 60.0
OF_OUR_OWN = ("EUSAGE", "EINTEGRITY", "EJSONPARSE")  # npm's codes for a lock file at fault

Ask = Callable[[list[list[Any]]], list[Any]]


def install(folder: Path) -> Ask:
    """Install what the lock file says into this folder, and return what asks it. Skips where that cannot be had."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("no node and npm here to run the provider's Node libraries")
    shutil.copytree(ORACLE, folder, dirs_exist_ok=True)
    command = (npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--prefer-offline")
    install = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    if install.returncode:
        if any(code in install.stderr for code in OF_OUR_OWN):
            pytest.fail(install.stderr)
        pytest.skip(f"npm could not install the provider's Node libraries: {install.stderr.partition(chr(10))[0]}")

    def ask(calls: list[list[Any]]) -> list[Any]:
        answered = subprocess.run(
            (node, "ask.js"),
            cwd=folder,
            input=json.dumps(calls),
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_SECONDS,
        )
        assert answered.returncode == 0, answered.stderr
        results: list[Any] = json.loads(answered.stdout)
        assert len(results) == len(calls)
        return results

    return ask
