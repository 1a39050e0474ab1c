"""``python deploy/audit.py``: looks the locked versions up among the known vulnerabilities; a part of ``make lint``.

Exits with 1 if one is found. Where no index answers (a mirror without that service, no network) it says so and exits
with 0: a missing index must not stop the work, and the next run somewhere else finds what there is.
"""

import json
import subprocess
import sys
from pathlib import Path

SECONDS = 300
LOCK = Path(__file__).parent / "dev.lock"  # the others hold a part of it, at the same versions


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
        found = json.loads(asked.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError):
        print("audit: no index of vulnerabilities answered")
        return
    looked_up = [one for one in found if "vulns" in one]
    for one in looked_up:
        for vulnerability in one["vulns"]:
            better = ", ".join(vulnerability["fix_versions"]) or "none yet"
            print(f"audit: {one['name']} {one['version']}: {vulnerability['id']}, fixed in {better}")
    print(f"audit: {len(looked_up)} of {len(found)} locked packages looked up")
    sys.exit(any(one["vulns"] for one in looked_up))


if __name__ == "__main__":
    main()
