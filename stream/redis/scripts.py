"""Reads Lua scripts from the ``.lua`` files next to the modules that call them."""

import re
from pathlib import Path

_SHARED = Path(__file__).parent
_INCLUDE = re.compile(r"^--- include (\w+\.lua)\n", re.MULTILINE)


def read_script(module: str, name: str) -> str:
    """Return the text of a script in the folder of a module, given by its ``__file__``.

    A line ``--- include FILE`` is replaced by that file from the same folder, or else from the folder of this module.
    """
    folder = Path(module).parent
    return _expand(folder, (folder / name).read_text())


def _expand(folder: Path, text: str) -> str:
    def include(line: re.Match[str]) -> str:
        path = next(place / line[1] for place in (folder, _SHARED) if (place / line[1]).exists())
        return _expand(folder, path.read_text())

    return _INCLUDE.sub(include, text)
