"""``python -m deploy.docs.pictures.recording``: the quick start of the README as it looks in a terminal.

Runs the real commands in a pseudo-terminal next to a running `ackstream up`, and writes docs/images/quickstart-*.svg.
"""

import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path

from deploy.docs.pictures.canvas import MONO, THEMES, Theme
from deploy.docs.running import Running, run_up

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "docs" / "images"
COLUMNS = 100
SIZE, LINE = 13, 19
PADDING, BAR = 18, 34
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x1b\x07]*(?:\x07|\x1b\\))")
SECONDS_A_LINE = 0.12
SECONDS_BEFORE_A_COMMAND = 0.9


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the terminal, and whether a person typed it."""

    text: str
    is_command: bool = False


def shown_commands() -> list[str]:
    """Return the commands of the README's quick start that a second terminal runs."""
    block = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    return [line for line in block.splitlines() if not line.startswith("export ")]


def main() -> None:
    """Record, and write both versions."""
    with tempfile.TemporaryDirectory(prefix="ackstream-recording-") as name, run_up(Path(name)) as running:
        lines = list(_record(running, Path(name)))
    for theme in THEMES:
        (IMAGES / f"quickstart-{theme.name}.svg").write_text(render(lines, theme))


def _record(running: Running, folder: Path) -> Iterator[Line]:
    for command in shown_commands():
        yield from _fold(f"$ {command}", is_command=True)
        output = _run(command.replace("127.0.0.1:3000", f"127.0.0.1:{running.port}"), running, folder)
        for text in output.replace(f":{running.port}", ":3000").splitlines():
            yield from _fold(text.rstrip())
        yield Line("")


def _run(command: str, running: Running, folder: Path) -> str:
    """Return the output of a command that believes to write to a terminal; it is repeated until it succeeds."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{running.environment['PATH']}"
    environment = {**running.environment, "PATH": path, "COLUMNS": str(COLUMNS), "TERM": "dumb"}
    while True:
        terminal, end = pty.openpty()
        process = subprocess.Popen(
            ["/bin/sh", "-c", command], cwd=folder, env=environment, stdout=end, stderr=subprocess.DEVNULL
        )
        os.close(end)
        output = b""
        with suppress(OSError):  # the terminal has closed
            while part := os.read(terminal, 4096):
                output += part
        os.close(terminal)
        if process.wait() == 0:
            return ESCAPES.sub("", output.decode()).replace("\r", "")


def _fold(text: str, *, is_command: bool = False) -> Iterator[Line]:
    for start in range(0, max(len(text), 1), COLUMNS):
        yield Line(text[start : start + COLUMNS], is_command)


def render(lines: list[Line], theme: Theme) -> str:
    """Return the terminal as SVG; its lines appear one after the other where the viewer allows motion."""
    width = COLUMNS * SIZE * 0.61 + 2 * PADDING
    height = BAR + len(lines) * LINE + PADDING
    colour = theme.colours
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        "<title>A terminal with the commands of the quick start and their output</title>",
        "<style>@media (prefers-reduced-motion: no-preference) { text { animation: show 0.01s backwards } }",
        "@keyframes show { from { opacity: 0 } }</style>",
        f'<rect width="100%" height="100%" rx="10" fill="{colour["box"]}" stroke="{colour["frame"]}"/>',
        *(f'<circle cx="{PADDING + 20 * place}" cy="18" r="6" fill="{colour["frame"]}"/>' for place in range(3)),
    ]
    seconds = 0.5
    for number, line in enumerate(lines):
        seconds += SECONDS_BEFORE_A_COMMAND if line.is_command else SECONDS_A_LINE
        y = BAR + (number + 0.75) * LINE
        ink = colour["accent" if line.is_command else "ink"]
        parts.append(
            f'<text x="{PADDING}" y="{y:g}" font-family="{MONO}" font-size="{SIZE}" fill="{ink}" '
            f'style="white-space: pre; animation-delay: {seconds:.2f}s" xml:space="preserve">{escape(line.text)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    main()
