"""The pictures in docs/images/ are those that the repository's commands make."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from deploy.docs.pictures import __main__ as pictures
from deploy.docs.pictures import module_map
from deploy.docs.pictures.recording import shown_commands

FOLDER = pictures.FOLDER


@pytest.mark.parametrize("name", sorted(pictures.PICTURES))
def test_a_picture_is_what_the_code_draws_now(name: str) -> None:
    """The files equal the drawings; if they differ, as after a new import between folders, run `make pictures`."""
    drawings = dict(pictures.render(name))

    assert drawings
    assert {file: (FOLDER / file).read_text() for file in drawings} == drawings


def texts(file: Path, tag: str) -> list[str]:
    """Return the texts of all elements with this tag."""
    root = ET.fromstring(file.read_text())  # noqa: S314 - a file of ours
    return [element.text or "" for element in root.iter(f"{{http://www.w3.org/2000/svg}}{tag}")]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.svg")), ids=lambda file: str(file.name))
def test_a_picture_needs_no_other_file(file: Path) -> None:
    """Each picture is well-formed XML with a title, and loads no font, image or script."""
    assert len(texts(file, "title")) == 1
    assert re.findall(r"(?:href|src|@import|url\((?!#))", file.read_text()) == []


def test_the_recording_shows_the_quick_start() -> None:
    """The recorded terminal has each command of the README's quick start; else run `make recording`."""
    shown = "".join(texts(FOLDER / "quickstart-light.svg", "text"))
    assert [command for command in shown_commands() if f"$ {command}" not in shown] == []


def test_the_module_map_has_no_dot_above_its_diagonal() -> None:
    """Each node comes after all that it imports."""
    graph = module_map.build_graph()
    places = {name: place for place, name in enumerate(module_map.sort_nodes(graph))}
    assert [
        (name, target) for name, targets in graph.items() for target in targets if places[target] > places[name]
    ] == []
