"""The folders and their imports as a matrix: if all dots are below the diagonal, the imports have no cycle."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter

from deploy.docs.folders import MODULES, NAMES, crossings, folder
from deploy.docs.pictures.canvas import Canvas, Theme

TITLE = "Folders and their imports"
CELL, LEFT, TOP = 21, 200, 200
NOTE = """A dot: the folder of the row
imports the folder of the column.
No dot is above the diagonal,
so the imports have no cycle."""
LOWEST_FIRST = ("runtime", "stream", "ingest", "worker", "ackstream", "console")

Graph = Mapping[str, set[str]]


def draw(theme: Theme) -> Canvas:
    """Draw the picture."""
    graph = build_graph()
    names = sort_nodes(graph)
    side = CELL * len(names)
    canvas = Canvas(LEFT + side + 30, TOP + side + 24, theme, TITLE)
    canvas.text((20, 26), "Imports between folders", size=16, bold=True, anchor="start")
    canvas.text((20, 52), NOTE, size=12, ink="muted", anchor="start")
    for place, name in enumerate(names):
        middle = place * CELL + CELL / 2
        canvas.text((LEFT - 10, TOP + middle), name, size=12, anchor="end", mono=True)
        canvas.text((LEFT + middle, TOP - 10), name, size=12, anchor="start", mono=True, turned=True)
        for column_number, column in enumerate(names):
            at = (LEFT + column_number * CELL + CELL / 2, TOP + middle)
            if place == column_number:
                canvas.rectangle((at[0] - CELL / 2, at[1] - CELL / 2), (CELL, CELL), radius=0)
            elif column in graph.get(name, ()):
                canvas.circle(at, 5, "accent" if _package(name) == _package(column) else "good")
            else:
                canvas.circle(at, 1, "frame")
    return canvas


def build_graph() -> Graph:
    """Return which nodes each node imports.

    A node is a folder, or modules of a package's root: those below its folders, those above, or one that is between.
    """
    edges = [edge for module in MODULES for edge in crossings(module)]
    inner = [(source, target) for source, target in edges if _package(source) == _package(target)]
    above = _closure((source, target) for source, target in inner if _is_root(source))
    below = _closure((target, source) for source, target in inner if _is_root(target))
    graph: dict[str, set[str]] = defaultdict(set)
    for source, target in edges:
        origin, destination = (_node(module, above, below) for module in (source, target))
        graph[origin] |= {destination} - {origin}
    return graph


def _closure(edges: Iterable[tuple[str, str]]) -> set[str]:
    """Return the modules that lead to a folder, directly or through others of the root."""
    pairs = list(edges)
    names = {source for source, target in pairs if not _is_root(target)}
    while more := {source for source, target in pairs if target in names} - names:
        names |= more
    return names


def sort_nodes(graph: Graph) -> Sequence[str]:
    """Return the nodes, each after those that it imports, packages together as far as that goes."""
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    names: list[str] = []
    ready: list[str] = []
    while sorter.is_active() or ready:
        ready += sorter.get_ready()
        ready.sort(key=lambda name: (LOWEST_FIRST.index(_package(name)), name))
        names.append(ready.pop(0))
        sorter.done(names[-1])
    return names


def _node(module: str, above: set[str], below: set[str]) -> str:
    """``above`` import folders of their package, ``below`` are imported by them."""
    if not _is_root(module):
        return folder(module).replace(".", "/")
    if module in above and module in below:
        return module.replace(".", "/")
    return f"{_package(module)} (start)" if module in above else _package(module)


def _is_root(module: str) -> bool:
    """Whether a module is in no folder below its package."""
    parts = module.split(".")
    return len(parts) == 1 or (len(parts) == 2 and NAMES[module].name != "__init__.py")  # noqa: PLR2004 - package.module


def _package(name: str) -> str:
    return name.replace("/", ".").replace(" ", ".").split(".")[0]
