"""``python -m deploy.docs.site_check FOLDER``: fails if a page of the built site loads anything from another host."""

import re
import sys
from pathlib import Path

LOADS = re.compile(
    r"""
      <(?:script|img|source|iframe|audio|video|embed)\b[^>]*\s(?:src|srcset)=["']?(?:https?:)?//
    | <link\b(?![^>]*\brel=["']?canonical)[^>]*\shref=["']?(?:https?:)?//
    | url\(\s*["']?(?:https?:)?//
    | @import\s+["'](?:https?:)?//
    """,
    re.VERBOSE | re.IGNORECASE,
)


def main() -> None:
    """Look at every page and style sheet."""
    folder = Path(sys.argv[1])
    files = [*folder.rglob("*.html"), *folder.rglob("*.css"), *folder.rglob("*.svg")]
    faults = [f"{file}: {match.group()}" for file in files for match in LOADS.finditer(file.read_text())]
    if faults or not files:
        sys.exit("\n".join(["the site loads from other hosts, or has no pages:", *faults]))
    print(f"docs: {len(files)} files, and none loads anything from another host")


if __name__ == "__main__":
    main()
