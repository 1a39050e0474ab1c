"""``python -m deploy.docs.pictures``: writes docs/images/, except for the recorded terminal (`recording`)."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from deploy.docs.pictures import architecture, decisions, lifecycle, module_map, outage, speed, trace
from deploy.docs.pictures.canvas import THEMES, Canvas, Theme

FOLDER = Path(__file__).parents[3] / "docs" / "images"
PICTURES: Mapping[str, Callable[[Theme], Canvas]] = {
    "architecture": architecture.draw,
    "entry-lifecycle": lifecycle.draw,
    "when-is-it-a-200": decisions.draw,
    "minute-without-redis": outage.draw,
    "speed": speed.draw,
    "module-map": module_map.draw,
    "trace": trace.draw,
}


def render_all() -> Iterator[tuple[str, str]]:
    """Yield the file's name and the content of each version of each picture."""
    for name, draw in PICTURES.items():
        for theme in THEMES:
            yield f"{name}-{theme.name}.svg", draw(theme).render()


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in render_all():
        (FOLDER / name).write_text(content)


if __name__ == "__main__":
    main()
