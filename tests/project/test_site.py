"""The documentation's site has every page."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def leaves(entries: Any) -> Iterator[str]:
    """Yield the pages of the navigation, in their order."""
    for entry in entries:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from leaves(value)


def test_every_page_is_in_the_navigation_once() -> None:
    """The navigation in zensical.toml names each page of docs/, and no other."""
    config = tomllib.loads((ROOT / "zensical.toml").read_text())
    pages = sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))
    assert sorted(leaves(config["project"]["nav"])) == pages


def test_the_site_loads_no_font() -> None:
    """The theme's fonts would come from another host; `make docs` checks the built pages too."""
    config = tomllib.loads((ROOT / "zensical.toml").read_text())
    assert config["project"]["theme"]["font"] is False
