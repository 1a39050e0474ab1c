"""``python deploy/audit.py``: checks the locked packages for known vulnerabilities; a part of ``make lint``.

Exits with 1 if a package is vulnerable, or if pip-audit fails. If no vulnerability index answers (no network, or a
mirror without that service), it prints that and exits with 0: work continues offline, and the next run with an index
reports the vulnerabilities.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

SECONDS = 300
LOCK = Path(__file__).parent / "dev.lock"  # the other lock files hold subsets of it, at the same versions

# The message of pip-audit, or of requests in its traceback, if the network or the index does not answer.
UNREACHABLE = re.compile(
    r"your network may be blocking this service|Could not connect to"
    r"|^requests\.exceptions\.(ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError)",
    re.MULTILINE,
)


def main() -> None:
    """Run pip-audit and report its result."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--requirement", str(LOCK)]
    try:
        process = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"audit: no index of vulnerabilities answered within {SECONDS} s")
        return
    sys.exit(report(process.stdout, process.stderr, process.returncode))


def report(output: str, errors: str, code: int) -> int:
    """Print the vulnerabilities, or why pip-audit printed no result; return the exit code."""
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = errors.strip().rpartition("\n")[2]
        if UNREACHABLE.search(errors):
            print(f"audit: no index of vulnerabilities answered ({last})")
            return 0
        print(f"audit: pip-audit failed with exit code {code}: {last or 'it printed nothing'}", file=sys.stderr)
        return 1
    audited = [package for package in packages if "vulns" in package]
    for package in audited:
        for vulnerability in package["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "none yet"
            print(f"audit: {package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    print(f"audit: {len(audited)} of {len(packages)} locked packages are checked; the index has no data on the others")
    return int(any(package["vulns"] for package in audited))


if __name__ == "__main__":
    main()
