"""``python deploy/audit.py``: looks the locked versions up among the known vulnerabilities; a part of ``make lint``.

Exits with 1 if one is found, or if pip-audit fails. Only where no index answers (a mirror without that service, no
network) it says so and exits with 0: a missing index must not stop the work, and the next run somewhere else finds what
there is.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

SECONDS = 300
LOCK = Path(__file__).parent / "dev.lock"  # the others hold a part of it, at the same versions

# What pip-audit says, or the requests library in its traceback, where the network or the index does not answer.
UNREACHABLE = re.compile(
    r"your network may be blocking this service|Could not connect to"
    r"|^requests\.exceptions\.(ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError)",
    re.MULTILINE,
)


def main() -> None:
    """Ask, and tell."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--requirement", str(LOCK)]
    try:
        asked = subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"audit: no index of vulnerabilities answered within {SECONDS} s")
        return
    sys.exit(judge(asked.stdout, asked.stderr, asked.returncode))


def judge(output: str, errors: str, code: int) -> int:
    """Print what pip-audit found, or why it found nothing; return the exit code."""
    try:
        found = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = errors.strip().rpartition("\n")[2]
        if UNREACHABLE.search(errors):
            print(f"audit: no index of vulnerabilities answered ({last})")
            return 0
        print(f"audit: pip-audit failed with exit code {code}: {last or 'it said nothing'}", file=sys.stderr)
        return 1
    looked_up = [one for one in found if "vulns" in one]
    for one in looked_up:
        for vulnerability in one["vulns"]:
            better = ", ".join(vulnerability["fix_versions"]) or "none yet"
            print(f"audit: {one['name']} {one['version']}: {vulnerability['id']}, fixed in {better}")
    print(f"audit: {len(looked_up)} of {len(found)} locked packages looked up; the index does not know the others")
    return int(any(one["vulns"] for one in looked_up))


if __name__ == "__main__":
    main()
