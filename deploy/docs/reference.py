"""``python -m deploy.docs.reference``: writes docs/reference/ from the code."""

from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.docs import commands_page, keys_page, metrics_page, schema_page, settings_page

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "configuration.md": settings_page.render,
    "cli.md": commands_page.render,
    "metrics.md": metrics_page.render,
    "redis-keys.md": keys_page.render,
    "database-schema.md": schema_page.render,
}


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, render in PAGES.items():
        (FOLDER / name).write_text(render())


if __name__ == "__main__":
    main()
