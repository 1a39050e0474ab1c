"""``python -m deploy.docs.pictures``: writes docs/images/, except for the recorded terminal (`recording`)."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from deploy.docs.pictures import architecture, decisions, growth, lifecycle, module_map, outage, ratios, speed, trace
from deploy.docs.pictures.canvas import THEMES, Canvas, Theme

FOLDER = Path(__file__).parents[3] / "docs" / "images"
PICTURES: Mapping[str, Callable[[Theme], Canvas]] = {
    "architecture": architecture.draw,
    "entry-lifecycle": lifecycle.draw,
    "when-is-it-a-200": decisions.draw,
    "minute-without-redis": outage.draw,
    "speed": speed.draw,
    "ratios": ratios.draw,
    "growth": growth.draw,
    "module-map": module_map.draw,
    "trace": trace.draw,
}


def render(name: str) -> Iterator[tuple[str, str]]:
    """Yield the file's name and the content of each version of a picture."""
    for theme in THEMES:
        yield f"{name}-{theme.name}.svg", PICTURES[name](theme).render()


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name in PICTURES:
        for file, content in render(name):
            (FOLDER / file).write_text(content)


if __name__ == "__main__":
    main()
