"""``python deploy/aiohttp_versions.py TESTS``: the tests on the lowest and the newest aiohttp that is allowed.

The endpoint uses aiohttp's public API only; this shows that it works with each version that a user may have installed.
Each version is installed over the packages of ``.venv``, in an environment of its own. Exits with 1 if a test fails.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSION = "from importlib.metadata import version; print(version('aiohttp'))"


def main() -> None:
    """Install, and test."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    allowed = next(one for one in dependencies if one.startswith("aiohttp"))
    lowest = allowed.partition(",")[0].replace(">=", "==")
    tested: set[str] = set()
    for name, wanted in (("lowest", lowest), ("newest", allowed)):
        python = install(name, wanted)
        version = run(python, "-c", VERSION, capture_output=True).stdout.strip()
        if version not in tested:
            tested.add(version)
            print(f"aiohttp {version}, the {name} that is allowed", flush=True)
            run(python, "-m", "pytest", "-q", "-n", "4", *sys.argv[1:])


def install(name: str, wanted: str) -> Path:
    """Return the Python of an environment that has this aiohttp, and everything else from the one that runs this."""
    folder = ROOT / ".venv" / f"aiohttp-{name}"
    python = folder / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (base,) = (ROOT / ".venv").glob("lib/python*/site-packages")
    (site / "base.pth").write_text(f"import site; site.addsitedir({str(base)!r})\n")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", wanted)
    return python


def run(*command: str | Path, capture_output: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a program in the project's folder; exit with 1 if it fails."""
    done = subprocess.run(command, cwd=ROOT, check=False, text=True, capture_output=capture_output)
    if done.returncode:
        sys.exit(1)
    return done


if __name__ == "__main__":
    main()
