"""``python deploy/vendor.py``: writes the console's libraries for browsers, from the npm registry, into the repository.

`make vendor` runs it. Each package has a fixed version and a hash of its archive, so a changed archive is refused.
"""

import base64
import hashlib
import io
import sys
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "console" / "web" / "static" / "vendor"
MANIFEST = FOLDER / "MANIFEST"
REGISTRY = "https://registry.npmjs.org"
SECONDS = 60


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the registry: the hash of its archive, and the files to take from it, with their new names."""

    name: str
    version: str
    sha512: str
    files: dict[str, str]

    @property
    def url(self) -> str:
        """The address of the archive."""
        return f"{REGISTRY}/{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"


PACKAGES = (
    Package(
        "htmx.org",
        "4.0.1",
        "oF7JgXhDW9UXCy/k1ZYFUQgzu/rm19ORWPSPNL91vPluB2PB9+MV55tyQdH/w7o2EAbTYUG5SDW1R60mdkdqGg==",
        {
            "package/dist/htmx.min.js": "htmx.min.js",
            "package/dist/ext/hx-sse.min.js": "hx-sse.min.js",
            "package/LICENSE": "htmx.LICENSE",
        },
    ),
    Package(
        "uplot",
        "1.6.32",
        "KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        {
            "package/dist/uPlot.iife.min.js": "uplot.min.js",
            "package/dist/uPlot.min.css": "uplot.min.css",
            "package/LICENSE": "uplot.LICENSE",
        },
    ),
)


def main() -> None:
    """Fetch all packages, then write their files and the manifest."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = ["# Written by `make vendor`: file, package, version, SHA-256 of the file."]
    for package in PACKAGES:
        with tarfile.open(fileobj=io.BytesIO(_fetch(package)), mode="r:gz") as archive:
            for member, name in package.files.items():
                reader = archive.extractfile(member)
                if reader is None:
                    sys.exit(f"vendor: {package.url} has no {member}")
                content = reader.read()
                (FOLDER / name).write_bytes(content)
                lines.append(f"{name} {package.name} {package.version} {hashlib.sha256(content).hexdigest()}")
    MANIFEST.write_text("\n".join(lines) + "\n")
    print(f"vendor: {len(lines) - 1} files in {FOLDER.relative_to(ROOT)}")


def _fetch(package: Package) -> bytes:
    """Return the archive. Exits unless it has the expected hash."""
    with urllib.request.urlopen(package.url, timeout=SECONDS) as answer:  # noqa: S310 - a fixed https address
        content: bytes = answer.read()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != package.sha512:
        sys.exit(f"vendor: {package.url} does not have the expected SHA-512")
    return content


if __name__ == "__main__":
    main()
