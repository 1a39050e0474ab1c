"""Shapes, texts and arrows as SVG, in the colours of a theme."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

Ink = Literal["ink", "muted", "line", "box", "frame", "accent", "good", "warn", "bad", "background"]
Point = tuple[float, float]

FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, monospace"
LINE_HEIGHT = 1.35


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of one version of a picture."""

    name: str
    colours: dict[Ink, str]


LIGHT = Theme(
    "light",
    {
        "background": "#ffffff",
        "ink": "#1f2328",
        "muted": "#59636e",
        "line": "#818b98",
        "box": "#f6f8fa",
        "frame": "#d1d9e0",
        "accent": "#0969da",
        "good": "#1a7f37",
        "warn": "#9a6700",
        "bad": "#cf222e",
    },
)
DARK = Theme(
    "dark",
    {
        "background": "#0d1117",
        "ink": "#e6edf3",
        "muted": "#9198a1",
        "line": "#6e7681",
        "box": "#161b22",
        "frame": "#3d444d",
        "accent": "#58a6ff",
        "good": "#3fb950",
        "warn": "#d29922",
        "bad": "#f85149",
    },
)
THEMES = (LIGHT, DARK)


@dataclass(slots=True)
class Canvas:
    """A picture in the making. Coordinates are pixels from the upper left corner."""

    width: float
    height: float
    theme: Theme
    title: str
    _parts: list[str] = field(default_factory=list)

    def colour(self, ink: Ink) -> str:
        """Return a colour of the theme."""
        return self.theme.colours[ink]

    def text(
        self,
        at: Point,
        text: str,
        *,
        size: float = 14,
        ink: Ink = "ink",
        anchor: Literal["start", "middle", "end"] = "middle",
        bold: bool = False,
        mono: bool = False,
        turned: bool = False,
    ) -> None:
        """Write lines of text; the first one is centred vertically on the point."""
        x, y = at
        style = f'font-size="{size:g}" fill="{self.colour(ink)}" text-anchor="{anchor}"'
        style += ' font-weight="600"' if bold else ""
        style += f' font-family="{MONO}"' if mono else ""
        turn = f' transform="rotate(-90 {x:g} {y:g})"' if turned else ""
        for number, line in enumerate(text.split("\n")):
            place = y + number * size * LINE_HEIGHT + size * 0.35
            self._parts.append(f'<text x="{x:g}" y="{place:g}" {style}{turn}>{escape(line)}</text>')

    def rectangle(
        self,
        corner: Point,
        size: Point,
        *,
        fill: Ink = "box",
        line: Ink = "frame",
        radius: float = 8,
        dashed: bool = False,
    ) -> None:
        """Draw a rectangle."""
        (x, y), (width, height) = corner, size
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" '
            f'fill="{self.colour(fill)}" stroke="{self.colour(line)}" stroke-width="1.5"{dashes}/>'
        )

    def box(self, corner: Point, size: Point, title: str, notes: str = "", *, line: Ink = "frame") -> None:
        """Draw a rectangle with a bold title and smaller notes below it, centred."""
        self.rectangle(corner, size, line=line)
        x, y = corner[0] + size[0] / 2, corner[1] + size[1] / 2
        lines = len(notes.split("\n")) if notes else 0
        self.text((x, y - lines * 8.5), title, size=15, bold=True)
        if notes:
            self.text((x, y - lines * 8.5 + 20), notes, size=12, ink="muted")

    def arrow(
        self,
        points: Sequence[Point],
        label: str = "",
        *,
        at: Point | None = None,
        ink: Ink = "line",
        dashed: bool = False,
    ) -> None:
        """Draw an arrow through the points, with a label at a place of its own."""
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<path d="{path}" fill="none" stroke="{self.colour(ink)}" stroke-width="1.8" stroke-linejoin="round"'
            f'{dashes} marker-end="url(#head-{ink})"/>'
        )
        if label:
            self.text(at or points[0], label, size=12, ink="muted" if ink == "line" else ink)

    def polyline(self, points: Sequence[Point], ink: Ink, *, width: float = 2) -> None:
        """Draw a line through the points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{self.colour(ink)}" stroke-width="{width:g}" '
            'stroke-linejoin="round"/>'
        )

    def circle(self, centre: Point, radius: float, ink: Ink) -> None:
        """Draw a dot."""
        self._parts.append(f'<circle cx="{centre[0]:g}" cy="{centre[1]:g}" r="{radius:g}" fill="{self.colour(ink)}"/>')

    def render(self) -> str:
        """Return the whole picture."""
        heads = "".join(
            f'<marker id="head-{ink}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>'
            for ink, colour in self.theme.colours.items()
        )
        size = f'viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" height="{self.height:g}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}" role="img">',
                f"<title>{escape(self.title)}</title>",
                f"<defs>{heads}</defs>",
                f'<rect width="100%" height="100%" rx="10" fill="{self.colour("background")}"/>',
                *self._parts,
                "</svg>",
                "",
            ]
        )
