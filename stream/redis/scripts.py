"""Lua scripts: each lives in a ``.lua`` file beside the module that calls it."""

import re
from pathlib import Path

_SHARED = Path(__file__).parent
_INCLUDE = re.compile(r"^--- include (\w+\.lua)\n", re.MULTILINE)


def read_script(module: str, name: str) -> str:
    """Return the text of a script in the folder of a module (``__file__``).

    A line ``--- include FILE`` is replaced by that file, which is looked for in the same folder, then in this one.
    """
    folder = Path(module).parent
    return _expand(folder, (folder / name).read_text())


def _expand(folder: Path, text: str) -> str:
    def include(line: re.Match[str]) -> str:
        path = next(place / line[1] for place in (folder, _SHARED) if (place / line[1]).exists())
        return _expand(folder, path.read_text())

    return _INCLUDE.sub(include, text)
