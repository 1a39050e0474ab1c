"""``python -m deploy.docs.reference``: writes docs/reference/ from the code."""

from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.docs import commands_page, json_page, keys_page, metrics_page, schema_page, settings_page

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "configuration.md": settings_page.render,
    "cli.md": commands_page.render,
    "metrics.md": metrics_page.render,
    "redis-keys.md": keys_page.render,
    "database-schema.md": schema_page.render,
}
JSON = "json.md"
"""This page is recorded from commands that run."""


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, render in PAGES.items():
        (FOLDER / name).write_text(render())
    (FOLDER / JSON).write_text(json_page.render(json_page.record_shapes()))


if __name__ == "__main__":
    main()
