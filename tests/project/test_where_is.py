"""The answers for new maintainers name files and symbols that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "where-is.md").read_text()
ROWS = re.findall(r"^\| `([\w/.-]+)` \| (?:`(\w+)`)? ?\|", PAGE, re.MULTILINE)


def definitions(file: Path) -> set[str]:
    """Return the names that a module defines at its top."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_sixteen_questions_are_answered() -> None:
    """Each question has at least one row."""
    sections = PAGE.split("\n## ")[1:]
    assert len(sections) == 16
    assert [section for section in sections if "| `" not in section] == []


def test_every_row_was_read() -> None:
    """The expression that reads the rows misses none."""
    assert len(ROWS) == len(re.findall(r"^\| `", PAGE, re.MULTILINE))


def test_each_file_exists_and_has_the_symbol() -> None:
    """A renamed file or symbol has to be renamed on the page too."""
    missing = [
        (path, symbol)
        for path, symbol in ROWS
        if not (ROOT / path).exists() or (symbol and symbol not in definitions(ROOT / path))
    ]
    assert missing == []
