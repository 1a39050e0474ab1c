"""``python deploy/aiohttp_versions.py TESTS``: runs the tests on the lowest and the newest allowed aiohttp.

The endpoint uses only aiohttp's public API. These runs check both ends of the version range in pyproject.toml. Each
version has an environment of its own, which takes all other packages from ``.venv``. Exits with 1 if a test fails.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSION = "from importlib.metadata import version; print(version('aiohttp'))"


def main() -> None:
    """Install each version, and run the tests on it."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    allowed = next(name for name in dependencies if name.startswith("aiohttp"))
    lowest = allowed.partition(",")[0].replace(">=", "==")
    tested: set[str] = set()
    for name, requirement in (("lowest", lowest), ("newest", allowed)):
        python = install(name, requirement)
        version = run(python, "-c", VERSION, capture_output=True).stdout.strip()
        if version not in tested:
            tested.add(version)
            print(f"aiohttp {version}, the {name} allowed version", flush=True)
            run(python, "-m", "pytest", "-q", "--processes", "4", *sys.argv[1:])


def install(name: str, requirement: str) -> Path:
    """Create an environment with this aiohttp and all other packages of .venv; return its Python."""
    folder = ROOT / ".venv" / f"aiohttp-{name}"
    python = folder / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (base,) = (ROOT / ".venv").glob("lib/python*/site-packages")
    (site / "base.pth").write_text(f"import site; site.addsitedir({str(base)!r})\n")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", requirement)
    return python


def run(*command: str | Path, capture_output: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a program in the project's folder; exit with 1 if it fails."""
    process = subprocess.run(command, cwd=ROOT, check=False, text=True, capture_output=capture_output)
    if process.returncode:
        sys.exit(1)
    return process


if __name__ == "__main__":
    main()
