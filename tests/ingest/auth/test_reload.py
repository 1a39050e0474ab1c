"""SIGHUP reloads the signature secrets of a running process."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingest.auth.policy import open_authentication
from ingest.auth.settings import SignatureSettings
from tests.support.waiting import until


def rewrite(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the secrets, which the settings name."""
    file = tmp_path / "secrets"
    rewrite(file, "account:first\n")
    monkeypatch.setenv("ACKSTREAM_SIGNATURE_SECRETS_FILE", str(file))
    return file


async def hang_up() -> dict[str, Any]:
    """Send SIGHUP to this process, and return the line that it logs."""
    with capture_logs() as lines:
        os.kill(os.getpid(), signal.SIGHUP)

        async def has_logged() -> bool:
            return bool(lines)

        await until(has_logged)
    return dict(lines[0])


async def test_a_changed_file_is_read_without_a_restart(secrets: Path) -> None:
    """The log says whether the secrets changed, and gives their number only."""
    async with open_authentication(SignatureSettings.load()):
        unchanged = await hang_up()
        rewrite(secrets, "account:first\naccount:second\n")
        changed = await hang_up()

    assert (unchanged["event"], unchanged["result"]) == ("authentication.secrets_read", "unchanged")
    assert (changed["result"], changed["secrets"]) == ("changed", "1 account, 2 secrets")


async def test_an_invalid_file_leaves_the_previous_secrets_in_use(secrets: Path) -> None:
    """The error does not quote the file."""
    async with open_authentication(SignatureSettings.load()):
        rewrite(secrets, "canary\n")
        line = await hang_up()

    assert (line["event"], line["log_level"]) == ("authentication.secrets_not_read", "error")
    assert "canary" not in str(line)


async def test_secrets_of_the_environment_are_not_reloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log names the setting of a file that could be reloaded."""
    monkeypatch.setenv("ACKSTREAM_SIGNATURE_SECRETS", "account:secret")
    async with open_authentication(SignatureSettings.load()):
        line = await hang_up()

    assert line["event"] == "authentication.secrets_fixed"
    assert "ACKSTREAM_SIGNATURE_SECRETS_FILE" in line["what"]
